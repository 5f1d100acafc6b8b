"""How the passes over a loader began and how far they came, so that they can be done again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from pellucid.sync.exact.handover import HandoverError
from pellucid.sync.shared import generators

__all__ = ["History"]

# where a loader keeps its processes, what they loaded in earlier passes decides what they draw in
# this one. Up to so many batches are loaded again for that
REPLAYED: Final = 1000


@dataclass
class _Begun:
    before: generators.States
    drawn_from: tuple[Any, ...]
    taken: int = 0


class History:
    """The passes over a loader, since its processes were started."""

    def __init__(self) -> None:
        self._passes: list[_Begun] = []

    def begin(self, loader: Any) -> None:
        """A pass begins: before anything is drawn for it."""
        if sum(begun.taken for begun in self._passes) > REPLAYED:
            # the seeds of its processes will be the same, not how far they came
            self._passes = [replace(self._passes[0], taken=0)]
        drawn_from = generators.held_by([loader._index_sampler, loader.generator])
        self._passes.append(_Begun(generators.states(drawn_from), drawn_from))

    def took(self) -> None:
        """The script was given a batch, or the exception in its place."""
        self._passes[-1].taken += 1

    @contextlib.contextmanager
    def again(self, begin: Callable[[], Iterator[Any]]) -> Iterator[Iterator[Any]]:
        """Do the passes again, up to where the latest one was.

        Args:
            begin: begins a pass; the first time, by starting processes.

        Yields:
            The batches that are still to come. What is drawn from the script's generators in here
            had been drawn already: they are put back at the end.
        """
        drawn_from = self._passes[-1].drawn_from
        now = generators.states(drawn_from)
        batches: Iterator[Any] = iter(())
        try:
            for begun in self._passes:
                generators.restore(begun.before, begun.drawn_from)
                batches = begin()
                for _ in range(begun.taken):
                    _pass_over(batches)
            yield batches
        finally:
            generators.restore(now, drawn_from)


def _pass_over(batches: Iterator[Any]) -> None:
    try:
        next(batches)
    except HandoverError:
        raise
    except Exception:
        pass  # the script has had it, and went on
