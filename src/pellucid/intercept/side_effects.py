"""Side effects happen once: every worker runs the script, only the leader's doings are real.

effects = SideEffects.follower(run_dir, board, index, real)
effects.install()          # before the script starts
...                        # the script runs
effects.promote()          # the leader died, and this worker is next

"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.intercept.console import Console, RealStreams
from pellucid.intercept.files import FollowerFiles, LeaderFiles
from pellucid.intercept.leadership import Leadership
from pellucid.intercept.processes import Commands
from pellucid.intercept.trackers import Trackers

if TYPE_CHECKING:
    from pellucid.transport.board import Board

__all__ = ["RealStreams", "SideEffects"]


class SideEffects:
    """Files, console and commands of one worker's script.

    Args:
        run_dir: directory of the run, the same for all workers of the box.
        board: of the box.
        index: of this worker.
        real: of a follower: descriptors of the run's real streams; None for the leader.
        same: whether all workers' copies of the script do the same.
        follows: of a follower: whether the leader is on this box.
    """

    def __init__(
        self,
        run_dir: str,
        board: Board,
        index: int,
        real: RealStreams | None = None,
        *,
        same: bool = True,
        follows: bool = True,
    ) -> None:
        self._leadership = Leadership(board, index, self.promote, follows=follows)
        self._leadership.leads = real is None
        self._files: LeaderFiles | FollowerFiles
        if real is None:
            self._files = LeaderFiles(run_dir)
        else:
            self._files = FollowerFiles(run_dir, index)
        self._console = Console(run_dir, self._leadership, real, same=same)
        self._commands = Commands(run_dir, self._leadership)
        self._trackers = Trackers(run_dir, index)

    @classmethod
    def leader(cls, run_dir: str, board: Board, index: int) -> SideEffects:
        """The side effects of the worker whose doings are real."""
        return cls(run_dir, board, index)

    @classmethod
    def follower(cls, run_dir: str, board: Board, index: int, real: RealStreams) -> SideEffects:
        """The side effects of a worker that keeps its doings to itself."""
        return cls(run_dir, board, index, real)

    def install(self) -> None:
        """Take hold of what the script may do.

        To be called when the script is about to start; in a follower, that is after the leader
        called `settle`.
        """
        if not self._leadership.leads:
            self._trackers.install()
        self._commands.install()
        self._console.install()
        self._files.install()

    def settle(self) -> None:
        """To be called in the leader before the followers start.

        What the leader makes from now on is hidden from the followers, and so is what it made
        before unless that is large, as a download is.
        """
        if isinstance(self._files, LeaderFiles):
            self._files.settle()

    def promote(self) -> None:
        """Make this follower the leader: its files become real, and the real streams its own.

        Calling it again does nothing.
        """
        if self._leadership.leads or isinstance(self._files, LeaderFiles):
            return
        self._leadership.leads = True
        self._files = self._files.promote()
        self._files.install()
        self._console.promote()

    def undo(self) -> None:
        """Let go of everything."""
        self._files.undo()
        self._console.undo()
        self._commands.undo()
        self._trackers.undo()
