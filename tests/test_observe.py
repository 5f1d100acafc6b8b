"""What is shown of a run: numbers, sentences, lines, the status line, events."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pellucid.observe.console import Lines, Quiet, StatusLine, open_console
from pellucid.observe.events import EventLog, EventReader
from pellucid.observe.meters import (
    Meters,
    Progress,
    Rate,
    Reading,
    exchange_share,
    profile_table,
    speed_up,
)

MS = 1_000_000
PROGRESS = Progress(step=1204, rate=4812.3, share=0.07, alive=2, workers=3)


def reading(
    steps: int, *, exchange: int = 0, wait: int = 0, overhead: int = 0, train: int | None = None
) -> Reading:
    """A worker after some steps of 10 ms with 64 rows, of which so many ms went elsewhere."""
    return Reading(
        steps=steps,
        samples=64 * steps,
        exchange_ns=exchange * steps * MS,
        wait_ns=wait * steps * MS,
        overhead_ns=overhead * steps * MS,
        train_ns=(10 * steps if train is None else train) * MS,
        sent_bytes=1_700_000 * steps,
        peak_rss=300 << 20,
    )


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate()
    assert rate.value == 0
    rate.update(0.0, 0)
    assert rate.value == 0
    rate.update(1.0, 100)
    assert rate.value == 100
    for second in range(2, 21):
        rate.update(float(second), 100 + 500 * (second - 1))
    assert rate.value == 500


def test_a_rate_of_steps_slower_than_its_window() -> None:
    rate = Rate()
    for second, samples in ((0, 0), (60, 600), (120, 1200)):
        rate.update(float(second), samples)
    assert rate.value == 10


@pytest.mark.parametrize(("exchange", "wait", "share"), [(0, 0, 0.0), (1, 2, 0.3), (9, 9, 1.0)])
def test_the_share_of_exchange(exchange: int, wait: int, share: float) -> None:
    assert exchange_share(reading(5, exchange=exchange, wait=wait)) == pytest.approx(share)
    assert exchange_share(Reading()) == 0.0


def test_the_speed_up_is_the_sum_of_the_shares_of_computing() -> None:
    busy, idle = reading(5, exchange=1, overhead=1), reading(5, wait=5)
    assert speed_up([busy, busy]) == pytest.approx(1.6)
    assert speed_up([busy, idle]) == pytest.approx(1.3)
    assert speed_up([reading(5)] * 4) == pytest.approx(4)
    assert speed_up([reading(10), reading(5)]) == pytest.approx(1.5)  # one died half-way
    assert speed_up([Reading()]) == 0.0


def test_what_came_before_the_first_step_does_not_count() -> None:
    meters = Meters()
    late = Reading(wait_ns=9000 * MS)
    meters.update([late, Reading()], 1.0)
    first = reading(1, wait=9001, train=0)
    meters.update([first, reading(1, train=0)], 1.0)
    meters.update([Reading(**{**vars(reading(101, wait=1)), "wait_ns": 9101 * MS})] * 2, 1.0)
    assert meters.progress(0, 2).share == pytest.approx(0.1, abs=0.01)
    assert meters.progress(0, 2).step == 101


def test_a_summary_says_what_a_run_was() -> None:
    meters = Meters()
    divided = replace(reading(100, exchange=1, wait=1), posted=100)
    meters.update([divided] * 2, 1.0)
    assert meters.summary(0) == (
        "100 steps, 6,400 samples in 1.0 s: 6,400 samples/s; 20% of the time in exchange; "
        "about 1.6 times one worker (an estimate)"
    )


def test_nothing_is_estimated_where_nothing_was_divided() -> None:
    meters = Meters()
    meters.update([reading(100, exchange=1, wait=1)] * 2, 1.0)
    assert meters.summary(0) == "100 steps, 6,400 samples in 1.0 s: 6,400 samples/s"


def test_where_workers_do_not_walk_in_step_their_samples_add_up() -> None:
    meters = Meters(adds=True)
    meters.update([reading(100), reading(300)], 1.0)
    assert meters.progress(0, 2).step == 400
    assert meters.summary(0) == (
        "400 steps, 25,600 samples in 3.0 s: 12,800 samples/s; 75% of the samples by the "
        "followers; 0% of the time waiting for the end of a pass"
    )


def test_a_summary_of_one_worker_has_nothing_to_compare() -> None:
    meters = Meters()
    meters.update([reading(100)], 1.0)
    assert meters.summary(0) == "100 steps, 6,400 samples in 1.0 s: 6,400 samples/s"


def test_a_summary_of_a_script_that_does_not_train() -> None:
    meters = Meters()
    meters.update([Reading(), Reading()], 1.0)
    assert meters.summary(0) == "the script did no training step that could be divided"


def test_a_profile_is_in_milliseconds_a_step() -> None:
    lines = profile_table([reading(10, exchange=1, wait=2, overhead=3)] * 2).splitlines()
    assert lines[1].split() == [
        *("compute", "exchange", "waiting", "overhead", "step", "sent", "peak", "memory")
    ]
    assert lines[3].split()[:7] == ["worker", "1", "4.000", "1.000", "2.000", "3.000", "10.000"]
    assert lines[3].split()[7:] == ["1.700", "MB", "300", "MiB"]


def test_progress_in_words() -> None:
    assert PROGRESS.parts() == [
        "4,812 samples/s",
        "step 1,204",
        "7% in exchange",
        "2 of 3 workers",
    ]


def test_quiet_says_only_errors() -> None:
    said: list[str] = []
    console = Quiet(said.append)
    console.say("a plan")
    assert not console.wants_progress(1e9)
    console.error("it broke")
    assert said == ["pellucid: it broke\n"]


def test_lines_come_at_growing_intervals() -> None:
    said: list[str] = []
    console = Lines(said.append)
    shown = []
    for second in range(2000):
        if console.wants_progress(second):
            console.show(PROGRESS, second)
            shown.append(second)
    assert shown == [10, 30, 70, 150, 310, 610, 910, 1210, 1510, 1810]
    assert said[0] == "pellucid: 4,812 samples/s, step 1,204, 7% in exchange, 2 of 3 workers\n"


class Terminal:
    """A small terminal: knows where the cursor is, what scrolls, and what each row shows."""

    def __init__(self, columns: int = 60, rows: int = 10) -> None:
        self.size = os.terminal_size((columns, rows))
        self.rows = [""] * rows
        self.region = (0, rows - 1)
        self.cursor = self.saved = (0, 0)

    def write(self, text: str) -> None:
        while text:
            if text.startswith("\x1b"):
                text = self._control(text)
                continue
            character, text = text[0], text[1:]
            row, column = self.cursor
            if character == "\n":
                if row == self.region[1]:
                    top, bottom = self.region
                    self.rows[top : bottom + 1] = [*self.rows[top + 1 : bottom + 1], ""]
                    self.cursor = (row, 0)
                else:
                    self.cursor = (min(row + 1, self.size.lines - 1), 0)
            else:
                line = self.rows[row].ljust(column)
                self.rows[row] = line[:column] + character + line[column + 1 :]
                self.cursor = (row, column + 1)

    def _control(self, text: str) -> str:
        if text[1] in "78":
            if text[1] == "7":
                self.saved = self.cursor
            else:
                self.cursor = self.saved
            return text[2:]
        end = next(at for at in range(2, len(text)) if text[at].isalpha())
        numbers = [int(number or 1) for number in text[2:end].split(";")]
        match text[end]:
            case "H":
                self.cursor = (numbers[0] - 1, numbers[1] - 1)
            case "K":
                self.rows[self.cursor[0]] = ""
            case "A":
                self.cursor = (self.cursor[0] - 1, self.cursor[1])
            case "r":
                whole = text[2:end] == ""
                self.region = (0, self.size.lines - 1) if whole else (0, numbers[1] - 1)
                self.cursor = (0, 0)
        return text[end + 1 :]


def test_the_script_writes_above_the_status_line() -> None:
    terminal = Terminal()
    console = StatusLine(terminal.write, lambda: terminal.size)
    for number in range(25):
        terminal.write(f"epoch {number}\n")
        console.show(PROGRESS, number)
    status = "pellucid  4,812 samples/s · step 1,204 · 7% in exchange"
    assert terminal.rows[-1].startswith(status)
    assert terminal.rows[:-1] == [*(f"epoch {n}" for n in range(17, 25)), ""]
    console.say("a notice")
    assert terminal.rows[-3:-1] == ["pellucid: a notice", ""]
    console.hide()
    assert terminal.rows[-1] == ""
    assert terminal.region == (0, 9)
    terminal.write("the end\n")
    assert "the end" in terminal.rows


def test_the_status_line_follows_the_size_of_the_terminal() -> None:
    terminal = Terminal()
    console = StatusLine(terminal.write, lambda: terminal.size)
    console.show(PROGRESS, 0.0)
    assert terminal.region == (0, 8)
    terminal.size = os.terminal_size((20, 8))
    console.show(PROGRESS, 1.0)
    assert terminal.region == (0, 6)
    assert len(terminal.rows[7]) < 20
    terminal.size = os.terminal_size((20, 3))
    console.show(PROGRESS, 2.0)
    assert terminal.region == (0, 2)


def test_the_status_line_is_drawn_four_times_a_second() -> None:
    terminal = Terminal()
    console = StatusLine(terminal.write, lambda: terminal.size)
    assert console.wants_progress(0.0)
    console.show(PROGRESS, 0.0)
    assert not console.wants_progress(0.2)
    assert console.wants_progress(0.25)


def test_the_console_suits_the_file(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("wb") as file:
        assert type(open_console(file.fileno(), quiet=False, term="xterm")) is Lines
        assert type(open_console(file.fileno(), quiet=True, term="xterm")) is Quiet
    near, far = os.openpty()
    assert type(open_console(far, quiet=False, term="xterm")) is StatusLine
    assert type(open_console(far, quiet=False, term="dumb")) is Lines
    os.close(near)
    os.close(far)


def test_a_reader_that_is_gone_does_not_matter() -> None:
    reading_end, writing_end = os.pipe()
    os.close(reading_end)
    open_console(writing_end, quiet=False, term="").say("to nobody")
    os.close(writing_end)


def test_events_are_put_together_byte_by_byte() -> None:
    events = [{"event": "plan", "text": "né"}, {"event": "error", "worker": 1}]
    data = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    assert EventReader().feed(data) == events
    reader = EventReader()
    assert [event for n in range(len(data)) for event in reader.feed(data[n : n + 1])] == events


@pytest.mark.parametrize("line", [b"{half", b"[1]", b'{"worker": 1}', b"\xff"])
def test_what_is_no_event_is_passed_on(line: bytes) -> None:
    (event,) = EventReader().feed(line + b"\n")
    assert event["event"] == "unreadable"
    assert EventReader().feed(b"\n") == []


def test_events_are_kept_with_their_time(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.write(1.23456, {"event": "plan", "text": "né"})
    log.write(2.0, {"event": "end"})
    log.close()
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"time": 1.235, "event": "plan", "text": "né"},
        {"time": 2.0, "event": "end"},
    ]


def test_a_full_disk_ends_the_log_and_not_the_run() -> None:
    log = EventLog(Path("/dev/full"))
    log.write(0.0, {"event": "start"})
    log.write(1.0, {"event": "end"})
    log.close()
    assert "No space left" in log.trouble
