"""Who leads: the leader acts, a follower waits for what the leader's act came to.

While a follower waits the leader may die, and this worker may be the next one: then it takes over
in the middle of its wait, and acts itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pellucid.errors import StoppedError
from pellucid.transport.board import Flag

if TYPE_CHECKING:
    from pellucid.transport.board import Board

__all__ = ["Leadership"]

T = TypeVar("T")

PAUSE = 0.002  # seconds between two looks; what a person types or a command does takes longer


class Leadership:
    """This worker's role, and how to wait for the leader.

    Args:
        board: of the box.
        index: of this worker.
        promote: makes this worker the leader; it is called once, from a wait or from outside.
        sleep: lets some seconds pass.
        follows: whether the leader is on this box. If not, there is nothing to wait for: this
            worker acts by itself, and its doings stay its own.
    """

    def __init__(
        self,
        board: Board,
        index: int,
        promote: Callable[[], None],
        sleep: Callable[[float], None] = time.sleep,
        *,
        follows: bool = True,
    ) -> None:
        self.board = board
        self.index = index
        self.leads = False
        self._promote = promote
        self._follows = follows
        self._sleep = sleep

    def wait(self, ready: Callable[[], T | None]) -> T | None:
        """Wait until the leader has done something: what `ready` then gives.

        Returns:
            None if the leader died without having done it: this worker leads, and does it. None
            at once if it has no leader on this box.

        Raises:
            StoppedError: the run is being stopped.
        """
        while (found := ready()) is None:
            if not self._follows:
                return None
            if self.board.flags[Flag.STOP]:
                msg = "the run is being stopped while this worker waits for the leader"
                raise StoppedError(msg)
            if self.board.flags[Flag.LEADER] == self.index:
                # the last thing that the old leader did may be just the one
                found = ready()
                self._promote()
                return found
            self._sleep(PAUSE)
        return found
