"""Real runs of stream mode over boxes with links of their own: deaths, arrivals, and a soak."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.boxes.fleet import Fleet, one_thread
from tests.boxes.namespaces import Namespaces

pytestmark = [pytest.mark.boxes, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 90.0
END_SECONDS = 120.0
PAUSE_SECONDS = 4.0  # for a death to be noticed: who is dead cannot let anybody in
QUICK = ["--heartbeat", "0.5", "--suspect-after", "1.5", "--lost-after", "3"]

# separable digits of our own: what is learned can be told from what is not
SCRIPT = """
import sys, time, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

epochs, pause = int(sys.argv[1]), float(sys.argv[2])
torch.manual_seed(1)
centres = 2 * torch.randn(10, 32)
labels = torch.randint(10, (2000,))
images = centres[labels] + torch.randn(2000, 32)
net = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
loader = DataLoader(TensorDataset(images, labels), 50, shuffle=True)
for epoch in range(epochs):
    for x, y in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
        time.sleep(pause)
    print("epoch", epoch, flush=True)
with torch.no_grad():
    right = (net(images).argmax(1) == labels).float().mean().item()
torch.save(net.state_dict(), "net.pt")
print("right", round(right, 3), flush=True)
"""

Make = Callable[..., Namespaces]
MakeFleet = Callable[[int], Fleet]


@pytest.fixture
def fleet(make_boxes: Make, tmp_path: Path) -> Iterator[MakeFleet]:
    """Boxes, and a script on the first one."""
    made: list[Fleet] = []

    def make(count: int) -> Fleet:
        (tmp_path / "work").mkdir()
        (tmp_path / "work" / "train.py").write_text(SCRIPT)
        environment = {**one_thread(), "PYTHONPATH": str(ROOT / "src")}
        made.append(
            Fleet(make_boxes(count, rate="100mbit"), tmp_path, tmp_path / "work", environment)
        )
        return made[-1]

    yield make
    for one in made:
        one.stop()


def begin(fleet: Fleet, boxes: int, *, epochs: int, pause: float = 0.02) -> None:
    fleet.begin(["train.py", str(epochs), str(pause)], QUICK, wait_for=boxes)
    fleet.wait_until(lambda: "pellucid join" in fleet.said(0), START_SECONDS, "the first box")
    for box in range(1, boxes):
        fleet.join(box)
    trains(fleet, *range(boxes))


def trains(fleet: Fleet, *boxes: int) -> None:
    """Wait until each of these boxes has trained something."""
    for box in boxes:
        progress(fleet, box, box, 1)


def progress(fleet: Fleet, witness: int, box: int | None, samples: int) -> int:
    """Wait until a box, or all together, have trained more samples; returns how many more."""

    def trained() -> int:
        moments = fleet.moments(witness)
        if not moments:
            return 0
        return moments[-1].total if box is None else moments[-1].samples.get(str(box), 0)

    before = trained()
    what = f"training on box {witness if box is None else box}"
    fleet.wait_until(lambda: trained() >= before + samples, START_SECONDS, what)
    return trained() - before


def ends(fleet: Fleet, box: int) -> int:
    """Wait for a box's end; its exit code."""
    process = fleet.launchers[box]
    fleet.wait_until(lambda: process.poll() is not None, END_SECONDS, f"the end of box {box}")
    return int(process.returncode)


def right(text: str) -> float:
    (line,) = [line for line in text.splitlines() if line.startswith("right ")]
    return float(line.split()[1])


def test_a_box_dies_and_another_joins_late(fleet: MakeFleet) -> None:
    run = fleet(3)
    begin(run, 2, epochs=30)
    run.boxes.signal(1, signal.SIGKILL)
    run.join(2)
    trains(run, 2)
    assert ends(run, 0) == 0
    assert ends(run, 2) == 0
    assert right(run.printed(0)) > 0.95
    assert run.printed(2) == ""
    assert [line for line in run.printed(0).splitlines() if line.startswith("epoch")] == [
        f"epoch {number}" for number in range(30)
    ]
    assert (run.folder / "work" / "net.pt").exists()


def test_the_first_box_dies_and_the_next_one_leads_and_lets_boxes_in(fleet: MakeFleet) -> None:
    run = fleet(3)
    begin(run, 2, epochs=40)
    run.boxes.signal(0, signal.SIGKILL)
    run.wait_until(
        lambda: run.moments(1)[-1].told.get("rates", {}).keys() == {"1"}, 60, "a view of one box"
    )
    run.join(2, through=1)
    trains(run, 2)
    assert ends(run, 1) == 0
    assert ends(run, 2) == 0
    assert right(run.printed(1)) > 0.95
    assert run.printed(2) == ""
    kept = run.said(1).partition("files that the script wrote while this box led are in ")[2]
    assert (Path(kept.splitlines()[0]) / "net.pt").exists()


def test_soak(fleet: MakeFleet, request: pytest.FixtureRequest) -> None:
    """A random box is killed every few seconds, any but the last, and another one joins for it."""
    seconds = float(request.config.getoption("--soak"))
    run = fleet(3)
    begin(run, 3, epochs=100_000)
    source = random.Random(0)
    until = time.monotonic() + seconds
    alive = [0, 1, 2]  # places; who joins again there gets a number of its own
    while time.monotonic() < until:
        victim = source.choice(alive)
        run.boxes.signal(victim, signal.SIGKILL)
        alive.remove(victim)
        # those that are left go on: they train more than they had
        assert progress(run, alive[0], None, 1000) >= 1000
        time.sleep(PAUSE_SECONDS)
        run.join(victim, through=alive[0])
        progress(run, victim, None, 1000)
        alive.append(victim)
    for place in alive:
        assert run.launchers[place].poll() is None, run.said(place)
