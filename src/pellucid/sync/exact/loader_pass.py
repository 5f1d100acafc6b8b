"""One pass of the script over a loader, begun again where it was lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from pellucid.sync.exact.handover import HandoverError, TravelError
from pellucid.sync.exact.history import History
from pellucid.sync.shared.script_thread import in_script_thread

__all__ = ["Origin", "Pass"]


class Origin(Protocol):
    """Where a pass comes from."""

    @property
    def history(self) -> History:
        """Of the loader; this pass is the latest."""

    def begin(self) -> Iterator[Any]:
        """Begin a pass like it, with whole batches."""

    def let_go(self) -> None:
        """End the loader's processes, where it keeps them."""

    def deal_no_more(self, why: str = "") -> None:
        """From now on, every worker has all processes of the loader."""


class Pass:
    """One pass of the script over a loader that gives whole batches.

    Attributes:
        is_lost: it must be begun again.
        is_ahead: the sampler has given a batch that is not counted as taken.

    Args:
        origin: where it comes from.
        batches: the loader's.
    """

    def __init__(self, origin: Origin, batches: Any) -> None:
        self._origin = origin
        self._batches = batches
        self._is_in_thread = False
        self.is_lost = False
        self.is_ahead = False

    def __iter__(self) -> Pass:
        return self

    def __len__(self) -> int:
        return len(self._batches)

    def __next__(self) -> Any:
        if not self._is_in_thread and not in_script_thread():
            # there is no exchange with other workers from here: this one goes on by itself
            self._is_in_thread = self.is_lost = True
            self._origin.deal_no_more()
        try:
            batch = self.next_or_again()
        except StopIteration:
            # let go of the loader's processes now, as a plain loop does: what the exception still
            # holds would keep them until the garbage collector comes by, perhaps in a child
            self._batches = iter(())
            raise
        except Exception:
            self._took()
            raise
        self._took()
        return batch

    def _took(self) -> None:
        self.is_ahead = False
        self._origin.history.took()

    def next_or_again(self) -> Any:
        """The next batch, of a pass that is begun again if need be, also more than once."""
        while True:
            try:
                if not self.is_lost:
                    return next(self._batches)
                self._batches = iter(())
                self._origin.let_go()
                with self._origin.history.again(self._origin.begin) as self._batches:
                    self.is_lost = False
                    if self.is_ahead:
                        return next(self._batches)
            except TravelError:
                self.is_lost = True
                self._origin.deal_no_more("they cannot be sent from one process to another")
            except HandoverError:
                self.is_lost = True
