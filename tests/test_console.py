"""What programs print and read, as leader and follower side by side: like plain python's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pellucid.errors import StoppedError
from pellucid.intercept.console import Console, Output, Record, _next_line
from pellucid.intercept.leadership import Leadership
from pellucid.transport.board import Board, Field, Flag
from tests.workers import Ran, alone, side_by_side

LINES = "one\ntwo\nthree\n\nfünf\nlast"

READS = """
    import sys
    from meeting import meet

    print(input("name: "), sys.stdin.readline())
    meet()
    for line in sys.stdin:
        print(repr(line))
        if not line.strip():
            break
    print(sys.stdin.buffer.read(), sys.stdin.read())
    try:
        input("more? ")
    except EOFError as error:
        print(error)
"""

PRINTS = """
    import os, sys
    from contextlib import redirect_stdout
    from io import StringIO
    from meeting import meet

    for stream in (sys.stdout, sys.stdin):
        print(stream.encoding, stream.errors, stream.line_buffering, stream.write_through)
        print(stream.name, stream.mode, stream.fileno(), stream.isatty(), type(stream).__name__)
        print(repr(stream), hasattr(stream.buffer, "raw"), stream.buffer.name, stream.newlines)
    print(sys.stdout is sys.__stdout__, sys.stdout.writable(), sys.stdin.readable())
    meet()
    sys.stdout.buffer.write(b"bytes\\n")
    sys.stdout.reconfigure(line_buffering=True)
    with redirect_stdout(StringIO()) as kept:
        print("not shown")
    print(len(kept.getvalue()), end=" ")
    sys.stdout.flush()
    os.write(1, b"past the stream\\n")
"""

DIES = """
    import sys
    from meeting import meet

    print("start", input())
    meet()
    print("half a line", end=" ", flush=True)
    meet("die")
    print("and the rest", input())
    sys.stdout.flush()
    meet()
    print("the end", list(sys.stdin))
    sys.exit(3)
"""


ASKS = """
    import sys
    from meeting import meet

    print(sys.stdin.isatty(), sys.stdout.isatty(), sys.stdout.line_buffering)
    first = input("a? ")
    meet()
    second = input("b? ")
    meet("die")
    third = input("c? ")
    print(first, second, third)
    try:
        input("d? ")
    except EOFError:
        print()
"""


@pytest.mark.parametrize("text", ["", LINES], ids=["nothing", "lines"])
@pytest.mark.parametrize("order", ["leader", ""])
def test_every_worker_reads_the_same(text: str, order: str, tmp_path: Path) -> None:
    if not text:
        _compare("import sys\nprint(sys.stdin.read())\nprint(list(sys.stdin))", tmp_path, order="")
    else:
        _compare(READS, tmp_path, stdin=text, order=order)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_streams_look_like_pythons(
    unbuffered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    _compare(PRINTS, tmp_path, order="leader")


@pytest.mark.parametrize("ahead", ["leader", "follower", ""])
def test_a_follower_goes_on_where_the_leader_stopped(ahead: str, tmp_path: Path) -> None:
    expected = alone(DIES, tmp_path / "plain" / "cwd", stdin=LINES)
    ran = side_by_side(DIES, tmp_path / "both" / "cwd", stdin=LINES, die="die", ahead=ahead)
    assert (ran.err, ran.follower_err) == ("", "")
    assert (ran.out, ran.code) == (expected.out, expected.code)


def test_on_a_terminal_all_workers_read_the_same(tmp_path: Path) -> None:
    stdin = "one\ntwo\nthree\n\x04"
    ran = side_by_side(ASKS, tmp_path / "cwd", stdin=stdin, terminal=True)
    assert (ran.err, ran.follower_err) == ("a? b? c? d? ", ""), "the terminal library prompts there"
    assert ran.follower_out == "True True True\na? b? c? one two three\nd? \n"
    assert ran.out.replace("\r", "").endswith("True True True\none two three\n\n")


def test_on_a_terminal_a_follower_takes_over(tmp_path: Path) -> None:
    stdin = "one\ntwo\nthree\n\x04"
    ran = side_by_side(ASKS, tmp_path / "cwd", stdin=stdin, terminal=True, die="die")
    assert ran.follower_err == ""
    assert ran.out.replace("\r", "").endswith("True True True\none two three\n\n")
    assert ran.out.count("one two three") == 1


def _compare(program: str, folder: Path, *, stdin: str = "", order: str) -> Ran:
    expected = alone(program, folder / "plain" / "cwd", stdin=stdin)
    ran = side_by_side(program, folder / "both" / "cwd", stdin=stdin, order=order)
    assert (expected.err, ran.err, ran.follower_err) == ("", "", "")
    assert ran.out == expected.out
    assert ran.follower_out == expected.out
    return ran


@pytest.fixture
def board() -> Board:
    return Board.create(2)


def test_what_was_printed_already_is_left_out() -> None:
    read, write = os.pipe()
    counted: list[int] = []
    output = Output(write, "<stdout>", terminal=False, count=counted.append)
    output.skip = 4
    assert [output.write(b"abc"), output.write(b"defg"), output.write(b"h")] == [3, 4, 1]
    os.close(write)
    assert os.read(read, 99) == b"efgh"
    assert counted == [0, 3, 1]
    os.close(read)


def test_a_record_gives_whole_chunks_only(tmp_path: Path) -> None:
    path = tmp_path / "stdin"
    leader, follower = Record(str(path)), Record(str(path))
    assert follower.take() is None
    leader.append(b"abc")
    leader.append(b"")
    assert leader.take() is None, "what it read itself it does not read again"
    assert [follower.take(), follower.take(), follower.take()] == [b"abc", b"", None]
    with path.open("ab") as file:
        file.write(b"\x05\x00\x00\x00ab")
    assert follower.take() is None


def test_a_wait_ends_with_the_leaders_deed(board: Board) -> None:
    deeds = iter([None, None, "done"])
    pauses: list[float] = []
    leadership = Leadership(board, 1, lambda: None, pauses.append)
    assert leadership.wait(lambda: next(deeds)) == "done"
    assert len(pauses) == 2


def test_a_wait_ends_when_the_run_does(board: Board) -> None:
    def stop(_: float) -> None:
        board.flags[Flag.STOP] = 1

    with pytest.raises(StoppedError):
        Leadership(board, 1, lambda: None, stop).wait(lambda: None)


def test_a_wait_ends_in_taking_over(board: Board) -> None:
    def die(_: float) -> None:
        board.flags[Flag.LEADER] = 1

    promoted: list[bool] = []
    leadership = Leadership(board, 1, lambda: promoted.append(True), die)
    assert leadership.wait(lambda: None) is None
    assert promoted == [True]


def test_the_leader_counts_what_it_prints(board: Board, tmp_path: Path) -> None:
    program = "print('abc')\nfrom meeting import meet\nmeet()\nprint('ü')"
    ran = _compare(program, tmp_path, order="")
    assert ran.out == "abc\nü\n"
    leadership = Leadership(board, 0, lambda: None)
    leadership.leads = True
    console = Console(str(tmp_path), leadership)
    console._count(5)
    assert board.fields[0][Field.STDOUT_BYTES] == 5
    leadership.leads = False
    console._count(5)
    assert board.fields[0][Field.STDOUT_BYTES] == 5


@pytest.mark.parametrize(
    ("printed", "shown"),
    [(0, "one\ntwo\nthree\n"), (4, "two\nthree\n"), (5, "three\n"), (14, ""), (50, "")],
)
def test_one_that_prints_otherwise_goes_on_with_a_whole_line(
    printed: int, shown: str, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    path.write_text("one\ntwo\nthree\n")
    assert path.read_text()[_next_line(str(path), printed) :] == shown
