"""What is known about calls of one kind, and when it is time to find it out again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Final, Literal

from pellucid.sync.exact.kept import Place
from pellucid.sync.exact.ways import Way

__all__ = ["COUNT", "DRAWS", "MIXES", "SHAPES", "Joint", "Proof", "Traces", "UntriedError"]

# reasons not to split a module, which calls find as proofs do
MIXES: Final = "its outputs mix rows of the batch"
SHAPES: Final = "the shape of its outputs does not follow the rows of its inputs"
DRAWS: Final = "it draws random numbers in a way that cannot be divided by rows"

COUNT: Final = "count"
Joint = int | Literal["count"] | None

SOON: Final = 8  # calls
MOST_RESTLESS: Final = 16  # then a number that the script sets is no reason for a check


class UntriedError(Exception):
    """A trial is broken off before it does what cannot be put back; the text is the reason."""


class Traces(Flag):
    """What a call of a module changes."""

    NONE = 0
    GENERATORS = auto()
    BUFFERS = auto()
    MORE = auto()  # parameters or attributes


@dataclass
class Proof:
    """What was found out about a module with inputs of one kind.

    Attributes:
        way: how to split its calls; None: it runs whole.
        outputs: for each leaf of the outputs, the dimension along which rows join; `COUNT` for a
            number of rows; None for what is the same everywhere.
        kept: attributes that it leaves tensors in; their leaves come after those of the outputs.
        why: what stands against splitting.
        guessed: it rests on sizes, and holds for batches of this size only.
        calls: calls that relied on it so far.
        checked: value of ``calls`` at the latest check.
        next_check: value of ``calls`` that makes it time for one.
        counts: whether calls themselves change the module's attributes.
        numbers: among the module's attributes, at the latest call.
        alike: places of outputs that were found to be the same everywhere, and may be so by chance.
        wanting: for each leaf of the outputs, whether it wants a gradient on any worker; empty
            until that is known.
        traces: what a call changes, beside what it returns or keeps.
        varies: lengths or tokens are among its inputs, by which its outputs may have other shapes.
        passing: it is about one call, and nothing to rely on later.
        restless: how often the script set which of them soon after a check.
    """

    way: Way | None
    outputs: tuple[Joint, ...] = ()
    kept: list[Place] = field(default_factory=list)
    why: str = ""
    guessed: bool = False
    calls: int = 0
    checked: int = 0
    next_check: int = 10
    counts: bool = False
    numbers: dict[str, int | float] = field(default_factory=dict)
    alike: tuple[int, ...] = ()
    traces: Traces = Traces.NONE
    varies: bool = False
    passing: bool = False
    wanting: list[bool] = field(default_factory=list)
    restless: Counter[str] = field(default_factory=Counter)

    @property
    def since_check(self) -> int:
        """Calls since the latest check."""
        return self.calls - self.checked

    @property
    def in_doubt(self) -> int:
        """Calls since then but the one that was checked."""
        return max(0, self.since_check - 1)

    def is_due(self, numbers: dict[str, int | float]) -> bool:
        """Whether it is time to check again.

        A script that sets a number, of the epoch perhaps, may want something else to be done from
        then on. One that is set at every step is not believed for long.

        Args:
            numbers: among the module's attributes now.
        """
        if numbers != self.numbers:
            turned = [name for name in numbers if numbers[name] != self.numbers.get(name)]
            believed = any(self.restless[name] < MOST_RESTLESS for name in turned)
            if self.since_check < SOON:
                self.restless.update(turned)
            self.numbers = numbers
            if self.calls and believed and self.way is not None and not self.counts:
                return True
        return self.way is not None and self.calls >= self.next_check
