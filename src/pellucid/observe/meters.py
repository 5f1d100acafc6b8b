"""From the workers' counters to the numbers and sentences that are shown."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

__all__ = [
    "Meters",
    "Progress",
    "Rate",
    "Reading",
    "exchange_share",
    "profile_table",
    "speed_up",
]

RATE_SECONDS: Final = 5.0
TELLING_NS: Final = 200_000_000  # in less, warming up is all there was to measure


@dataclass(frozen=True)
class Reading:
    """One worker's counters at one instant; times in nanoseconds.

    Attributes:
        steps: backward passes.
        samples: rows of batches: in exact mode of whole ones, the same for every worker; where the
            workers do not walk in step, of the worker's own.
        exchange_ns: spent moving bytes.
        wait_ns: spent waiting for other workers.
        overhead_ns: spent on our own bookkeeping.
        train_ns: from the first step to the latest.
        sent_bytes: payload put into exchanges.
        peak_rss: most memory it ever had, in bytes.
        posted: buckets of gradients that it shared.
    """

    steps: int = 0
    samples: int = 0
    exchange_ns: int = 0
    wait_ns: int = 0
    overhead_ns: int = 0
    train_ns: int = 0
    sent_bytes: int = 0
    peak_rss: int = 0
    posted: int = 0

    @property
    def compute_ns(self) -> int:
        """What is left of the training time for the script's own work."""
        return max(0, self.train_ns - self.exchange_ns - self.wait_ns - self.overhead_ns)

    def since(self, earlier: Reading) -> Reading:
        """What was added to the counters since an earlier instant."""
        new, old = asdict(self), asdict(earlier)
        return Reading(
            **{name: new[name] - old[name] for name in new} | {"peak_rss": self.peak_rss}
        )


@dataclass(frozen=True)
class Progress:
    """What the status shows.

    Attributes:
        step: the leader's latest step.
        rate: samples a second, lately.
        share: share of the time in exchange so far, 0 to 1.
        alive: workers that are not dead.
        workers: workers there were at the start.
        others: what is to be said of other boxes.
    """

    step: int
    rate: float
    share: float
    alive: int
    workers: int
    others: tuple[str, ...] = ()

    def parts(self) -> list[str]:
        """The status in words, most wanted first."""
        rate = [f"{self.rate:,.0f} samples/s"] if self.rate else []  # there is none at first
        share = [f"{self.share:.0%} in exchange"] if self.workers > 1 else []
        workers = f"{self.alive} of {self.workers} workers"
        return [*rate, f"step {self.step:,}", *share, workers, *self.others]


class Meters:
    """Readings of all workers over the run.

    Exchange and waiting before the first step (the leader waits for the others to come that far,
    first calls are tried out) say nothing about training: so the shares are taken of what was
    added since a first reading in which there was a step.

    Args:
        adds: whether the workers' steps and samples are different ones, that add up.
    """

    def __init__(self, *, adds: bool = False) -> None:
        self.latest: list[Reading] = []
        self._adds = adds
        self._first: dict[int, Reading] = {}
        self._rate = Rate()

    def update(self, readings: Sequence[Reading], now: float) -> None:
        """Take a new reading of each worker."""
        self.latest = list(readings)
        samples = [reading.samples for reading in readings]
        self._rate.update(now, sum(samples) if self._adds else max(samples))
        for worker, reading in enumerate(readings):
            if reading.steps:
                self._first.setdefault(worker, reading)

    def trained(self) -> list[Reading]:
        """Each worker's training; all of it, when it was over at the first look."""
        since = [r.since(self._first.get(w, Reading())) for w, r in enumerate(self.latest)]
        return since if all(r.train_ns for r in since) else self.latest

    def progress(self, leader: int, alive: int, others: Sequence[str] = ()) -> Progress:
        """The status now."""
        reading = self.latest[leader]
        return Progress(
            step=sum(r.steps for r in self.latest) if self._adds else reading.steps,
            rate=self._rate.value,
            share=exchange_share(self.trained()[leader]),
            alive=alive,
            workers=len(self.latest),
            others=tuple(others),
        )

    def summary(self, leader: int) -> str:
        """One line about a run that has ended."""
        total, trained = self.latest[leader], self.trained()
        if not total.steps:
            return "the script did no training step that could be divided"
        if self._adds:
            return _added_up(self.latest, trained)
        reading = trained[leader]
        if total.train_ns < TELLING_NS:
            return f"{total.steps:,} steps, {total.samples:,} samples"
        line = f"{total.steps:,} steps, {total.samples:,} samples in {total.train_ns / 1e9:,.1f} s"
        if reading.train_ns:
            line += f": {reading.samples / reading.train_ns * 1e9:,.0f} samples/s"
        # where nothing was divided there is nothing to estimate
        if len(self.latest) > 1 and 2 * reading.posted >= reading.steps:
            line += (
                f"; {exchange_share(reading):.0%} of the time in exchange; "
                f"about {speed_up(trained):.1f} times one worker (an estimate)"
            )
        return line

    def profile(self) -> str:
        """Where each worker's time went, as a table."""
        return profile_table(self.trained())


def _added_up(total: Sequence[Reading], trained: Sequence[Reading]) -> str:
    """One line about workers that trained side by side."""
    steps, samples = sum(r.steps for r in total), sum(r.samples for r in total)
    longest = max(r.train_ns for r in total) / 1e9
    line = f"{steps:,} steps, {samples:,} samples in {longest:,.1f} s"
    rates = [r.samples / r.train_ns * 1e9 for r in trained if r.train_ns]
    if rates:
        line += f": {sum(rates):,.0f} samples/s"
    if len(total) > 1:
        share = sum(r.samples for r in total[1:]) / samples if samples else 0.0
        waited = sum(r.wait_ns for r in trained) / max(1, sum(r.train_ns for r in trained))
        line += (
            f"; {share:.0%} of the samples by the followers; {waited:.0%} of the time waiting for "
            f"the end of a pass"
        )
    return line


class Rate:
    """Samples a second over the last few seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, now: float, samples: int) -> None:
        """Add what was counted until now."""
        seen = self._seen
        seen.append((now, samples))
        # keep one point beyond the window, so that slow steps have a rate too
        while len(seen) > 2 and seen[1][0] <= now - RATE_SECONDS:
            seen.popleft()

    @property
    def value(self) -> float:
        """The rate; 0 as long as there is none."""
        if len(self._seen) < 2:
            return 0.0
        (began, first), (ended, last) = self._seen[0], self._seen[-1]
        return (last - first) / (ended - began) if ended > began else 0.0


def exchange_share(reading: Reading) -> float:
    """Share of the training time that went into moving bytes and waiting for others."""
    if not reading.train_ns:
        return 0.0
    return min(1.0, (reading.exchange_ns + reading.wait_ns) / reading.train_ns)


def speed_up(readings: Sequence[Reading]) -> float:
    """How many times faster than one worker alone the run was: an estimate.

    Of the time T of the training each worker computed on its slices for a time c; the rest went
    into exchange, waiting and bookkeeping. One worker alone would have computed all slices, one
    after the other, and nothing else. So the speed-up is the sum of the c over T. (A worker that
    died computed for a shorter time, and adds less.)

    That is too high where the workers repeat rather than divide the work, as they do in
    ``optimizer.step`` and in reading the data, and where one worker alone would have run faster
    with the cores to itself. It is too low where large slices compute less well than small ones.
    The true number takes a second run with ``--workers 1``.
    """
    longest = max(reading.train_ns for reading in readings)
    return sum(reading.compute_ns for reading in readings) / longest if longest else 0.0


def profile_table(readings: Sequence[Reading]) -> str:
    """Where each worker's time went, in milliseconds a step."""
    heads = ["compute", "exchange", "waiting", "overhead", "step"]
    lines = [
        "where the time went, in ms a step",
        f"{'':10}" + "".join(f"{head:>10}" for head in heads) + f"{'sent':>12}{'peak memory':>14}",
    ]
    for worker, reading in enumerate(readings):
        steps = max(1, reading.steps)
        times = [
            reading.compute_ns,
            reading.exchange_ns,
            reading.wait_ns,
            reading.overhead_ns,
            reading.train_ns,
        ]
        cells = "".join(f"{time / steps / 1e6:10.3f}" for time in times)
        sent = f"{reading.sent_bytes / steps / 1e6:9.3f} MB"
        lines.append(f"worker {worker:<3}{cells}{sent}{reading.peak_rss / 2**20:10.0f} MiB")
    return "\n".join(lines)
