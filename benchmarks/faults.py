"""Break boxes and cables while stream mode trains, and measure what that costs the others.

LeNet learns MNIST's digits on three boxes (network namespaces of this machine, one worker of one
thread on each, with a pause in each step so that all fit onto two cores). For every fault:

- **back after**: seconds until the boxes that are not broken train at 90% of their speed before
  the fault, and stay there for some seconds. 0.0 when they never were slower.
- **noticed after**: seconds until a launcher of another box first said something.
- **samples**: steps that the boxes' scripts have printed, in samples, beyond what the epochs hold:
  above 0, batches of a broken box were trained again by another; below 0, some were left out.
- **accuracy**: the last one that was shown, by whichever box led by then.

    python benchmarks/faults.py --mnist data/mnist            # as root; a quarter of an hour
    python benchmarks/faults.py --only "kill a box" --mnist data/mnist
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))  # the tests know how to make boxes

from tests.boxes.fleet import Fleet, one_thread
from tests.boxes.namespaces import Namespaces

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE.parent / "build" / "benchmarks" / "faults.json"
MNIST: Final = HERE.parent / "data" / "mnist"
BOXES: Final = 3
STEADY_SECONDS: Final = 8.0  # of undisturbed training before the fault
STAYS_SECONDS: Final = 3.0
ENOUGH: Final = 0.9  # of the speed before
RATE: Final = "100mbit"
LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Fault:
    """Something that breaks.

    Attributes:
        name: for people.
        strike: breaks it.
        hurt: boxes whose own speed is not looked at.
        mend: undoes it, some seconds later; None if it stays.
        lasts: seconds until then.
    """

    name: str
    strike: Callable[[Fleet], None]
    hurt: tuple[int, ...] = ()
    mend: Callable[[Fleet], None] | None = None
    lasts: float = 0.0


@dataclass
class Outcome:
    """What a fault came to."""

    fault: str
    back: float | None = None
    noticed: float | None = None
    notice: str = ""
    samples: int | None = None
    accuracy: float | None = None
    ended: bool = False
    note: str = ""


def _kill(box: int) -> Callable[[Fleet], None]:
    return lambda fleet: fleet.boxes.signal(box, signal.SIGKILL)


def _kill_launcher(box: int) -> Callable[[Fleet], None]:
    return lambda fleet: fleet.launchers[box].kill()


def _power_off(fleet: Fleet) -> None:
    """As a machine without power looks to the others: its connections stay half open."""
    fleet.boxes.cut(2)
    fleet.boxes.signal(2, signal.SIGKILL)


def _fill_disk(fleet: Fleet) -> None:
    """Where box 1 keeps its records, script and temporary files."""
    with (fleet.path(1, "fill")).open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1 << 16)):
                pass
        except OSError:
            pass  # full


def _faults(pause: float) -> list[Fault]:
    def stop(fleet: Fleet) -> None:
        fleet.boxes.signal(1, signal.SIGSTOP)

    def go_on(fleet: Fleet) -> None:
        fleet.boxes.signal(1, signal.SIGCONT)

    def heal(fleet: Fleet) -> None:
        fleet.boxes.heal(1)

    def slow(fleet: Fleet) -> None:
        fleet.boxes.shape(1, "1mbit")

    return [
        Fault("none", lambda _: None),
        Fault("kill a box", _kill(2), hurt=(2,)),
        Fault("kill the leader", _kill(0), hurt=(0,)),
        Fault("kill the listener", _kill_launcher(0), hurt=(0,)),
        Fault("stop a box (SIGSTOP)", stop, hurt=(1,), mend=go_on, lasts=pause),
        Fault(
            "cable, sends nothing",
            lambda fleet: fleet.boxes.cut(1, receives=False),
            hurt=(1,),
            mend=heal,
            lasts=pause / 2,
        ),
        Fault(
            "cable, receives nothing",
            lambda fleet: fleet.boxes.cut(1, sends=False),
            hurt=(1,),
            mend=heal,
            lasts=pause / 2,
        ),
        Fault("cable pulled", lambda f: f.boxes.pull(1), hurt=(1,), mend=heal, lasts=pause / 2),
        Fault("a box at 1 Mbit/s", slow, hurt=()),
        Fault("full disk", _fill_disk, hurt=(1,)),  # what its script prints has no place any more
        Fault("half-open connection", _power_off, hurt=(2,)),
    ]


def main() -> None:
    """Strike, watch, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="a part of its name")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int, default=20_000, help="of an epoch")
    parser.add_argument("--pause", type=float, default=0.03, help="seconds a step sleeps")
    parser.add_argument("--stopped", type=float, default=60.0, help="seconds that SIGSTOP lasts")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds for one fault")
    parser.add_argument("--mnist", metavar="DIR", required=not MNIST.is_dir(), default=str(MNIST))
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and clean up
    faults = _faults(args.stopped)
    if args.only:
        faults = [f for f in faults if any(name in f.name for name in args.only)]
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    outcomes = []
    for fault in faults:
        outcome = _watch(fault, args)
        outcomes.append(outcome)
        console.print(f"{fault.name}: {outcome.note or 'done'}", highlight=False, markup=False)
        _write(args, outcomes)
    console.print(_table(outcomes))
    console.print(f"everything is in {args.json}")
    if not all(outcome.ended for outcome in outcomes):
        sys.exit("not all runs came to their end")


def _watch(fault: Fault, args: argparse.Namespace) -> Outcome:
    outcome = Outcome(fault.name)
    with (
        tempfile.TemporaryDirectory(prefix="pellucid-faults-") as folder,
        _small_disk(Path(folder) / "box-1"),
        Namespaces(BOXES, rate=RATE) as boxes,
    ):
        fleet = Fleet(boxes, Path(folder), HERE / "workloads", one_thread())
        try:
            _start(fleet, args)
            _strike(fleet, fault, outcome, args)
        except RuntimeError as error:
            outcome.note = str(error)
        finally:
            fleet.stop()
    return outcome


def _start(fleet: Fleet, args: argparse.Namespace) -> None:
    script = ["epochs.py", "lenet", "--mnist", str(Path(args.mnist).absolute())]
    script += ["--epochs", str(args.epochs), "--images", str(args.images)]
    script += ["--pause", str(args.pause)]
    fleet.begin(script, wait_for=BOXES)
    fleet.wait_until(lambda: "pellucid join" in fleet.said(0), 60, "the first box")
    for box in range(1, BOXES):
        fleet.join(box)

    def steady() -> bool:
        moments = fleet.moments(1)
        since = moments[-1].time - STEADY_SECONDS if moments else 0.0
        lately = [m for m in moments if m.time >= since]
        all_train = [all(m.rates.get(str(b), 0) > 0 for b in range(BOXES)) for m in lately]
        return len(lately) >= STEADY_SECONDS / 2 and since > 0 and all(all_train)

    fleet.wait_until(steady, 120, "steady training")


def _strike(fleet: Fleet, fault: Fault, outcome: Outcome, args: argparse.Namespace) -> None:
    whole = [box for box in range(BOXES) if box not in fault.hurt]
    witness = next(box for box in (1, 0, 2) if box in whole)
    told = len(_notices(fleet, witness))
    before = _speed(fleet, whole, -STEADY_SECONDS, 0.0)
    struck = time.time()
    fault.strike(fleet)
    mended = fault.mend is None
    until = time.monotonic() + args.limit
    others = [fleet.launchers[box] for box in whole]
    while any(one.poll() is None for one in others) and time.monotonic() < until:
        if not mended and fault.mend is not None and time.time() - struck >= fault.lasts:
            fault.mend(fleet)
            mended = True
        if outcome.noticed is None and (notices := _notices(fleet, witness)[told:]):
            outcome.noticed, outcome.notice = time.time() - struck, notices[0]
        time.sleep(LOOK_SECONDS)
    outcome.ended = all(one.poll() == 0 for one in others)
    outcome.back = _back(fleet, whole, before, struck)
    if outcome.ended:
        trained = sum(n for box in range(BOXES) for _, n in _steps(fleet, box))
        outcome.samples = trained - args.epochs * args.images
    outcome.accuracy = _accuracy(fleet, whole)
    if not outcome.ended:
        said = "\n".join(fleet.said(box)[-1000:] for box in range(BOXES))
        codes = ", ".join(
            f"{one.poll()} on box {box}" for box, one in zip(whole, others, strict=True)
        )
        outcome.note = f"exit code {codes}:\n{said}"


def _notices(fleet: Fleet, box: int) -> list[str]:
    """What a box's launcher has told its user about the others."""
    return [event["text"] for event in fleet.events(box) if event["event"] == "notice"]


def _steps(fleet: Fleet, box: int) -> list[tuple[float, int]]:
    """When a box ended a step, and samples it had."""
    printed = _printed(fleet, box)
    lines = [line.split()[1:] for line in printed if line.startswith("samples ")]
    return [(float(words[0]), int(words[1])) for words in lines if len(words) == 2]


def _printed(fleet: Fleet, box: int) -> list[str]:
    """Lines that a box's script printed, shown or not."""
    paths = (fleet.path(box, "logs", "worker-0.out"), fleet.path(box, "stdout"))
    printed = "\n".join(path.read_text(errors="replace") for path in paths if path.exists())
    # a box that comes to lead shows also what was not shown before; every line tells its time
    return list(dict.fromkeys(printed.splitlines()))


def _speed(fleet: Fleet, boxes: Sequence[int], begin: float, end: float) -> float:
    """Samples a second that these boxes train, between two moments from now."""
    now = time.time()
    steps = [step for box in boxes for step in _steps(fleet, box)]
    return sum(n for t, n in steps if now + begin < t <= now + end) / (end - begin)


def _back(fleet: Fleet, boxes: Sequence[int], before: float, struck: float) -> float | None:
    """Seconds from a fault until these boxes train at full speed and stay there."""
    steps = [step for box in boxes for step in _steps(fleet, box)]
    last = max((t for t, _ in steps), default=struck)
    delay = 0.0
    while struck + delay + STAYS_SECONDS <= last:
        begin = struck + delay
        trained = sum(n for t, n in steps if begin < t <= begin + STAYS_SECONDS)
        if trained / STAYS_SECONDS >= ENOUGH * before:
            return delay
        delay += LOOK_SECONDS
    return None


def _accuracy(fleet: Fleet, boxes: Sequence[int]) -> float | None:
    """The last one that was shown: by the box that led in the end."""
    shown = [fleet.path(box, "stdout").read_text(errors="replace") for box in boxes]
    lines = [line.split() for line in "\n".join(shown).splitlines() if line.startswith("accuracy ")]
    return float(max(lines, key=lambda words: float(words[1]))[3]) if lines else None


class _small_disk:  # noqa: N801 - a context manager, used like a function
    """A file system of some megabytes at a folder: one that can be filled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        self._folder.mkdir()
        options = ["-o", "size=24m", "tmpfs", str(self._folder)]
        subprocess.run(["mount", "-t", "tmpfs", *options], check=True)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", str(self._folder)], check=True)


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table("fault", "back after", "noticed after", "samples", "accuracy")
    for one in outcomes:
        table.add_row(
            one.fault,
            "never" if one.back is None else f"{one.back:.1f} s",
            "-" if one.noticed is None else f"{one.noticed:.1f} s",
            "-" if one.samples is None else f"{one.samples:+,}",
            "-" if one.accuracy is None else f"{one.accuracy:.4f}",
        )
    return table


def _write(args: argparse.Namespace, outcomes: Sequence[Outcome]) -> None:
    told = {
        "arguments": {name: str(value) for name, value in vars(args).items()},
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
