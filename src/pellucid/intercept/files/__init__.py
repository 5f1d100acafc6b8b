"""Files: every worker runs the whole script, but only the leader's files are real.

    leader    writes to the disk; what it changes is written down first      journal, leader
    follower  writes to a directory of its own, and sees that over the disk  view, overlay, follower
    promoted  its view becomes real, and it goes on as the leader            merge

`LeaderFiles` and `FollowerFiles` are what the rest of pellucid sees of this.
"""

from __future__ import annotations

import os
import posixpath
import tempfile

from pellucid.intercept.files.children import reach_children
from pellucid.intercept.files.follower import FollowerSeams
from pellucid.intercept.files.formats import Formats, PathFor
from pellucid.intercept.files.journal import Journal
from pellucid.intercept.files.leader import LeaderPaths, LeaderSeams
from pellucid.intercept.files.merge import merge
from pellucid.intercept.files.opening import FollowerPaths
from pellucid.intercept.files.overlay import Overlay
from pellucid.intercept.files.seams import Seams, put_in_place
from pellucid.intercept.files.temporary import SameNames, shared_paths
from pellucid.intercept.files.view import View
from pellucid.intercept.patch import Patches

__all__ = ["FollowerFiles", "LeaderFiles"]


class _Files:
    """What both roles have in common: patches that come and go together."""

    def __init__(self, run_dir: str) -> None:
        self.run_dir = os.path.realpath(run_dir)
        self._patches = Patches()
        self._formats: Formats | None = None

    def _install(self, seams: Seams, paths: PathFor, again: str) -> None:
        put_in_place(self._patches, seams)
        again = f"from {__name__} import {again.partition('(')[0]}; {again}.install_in_child()"
        reach_children(self._patches, again)
        self._formats = Formats(paths)
        self._formats.install(self._patches)

    def undo(self) -> None:
        """Put everything back."""
        if self._formats is not None:
            self._formats.undo()
            self._formats = None
        self._patches.undo()


class LeaderFiles(_Files):
    """Files of the leader.

    Args:
        run_dir: directory of the run.
    """

    def install(self) -> None:
        """Write down, from now on, what the script changes."""
        self._patches.replace(tempfile, "_name_sequence", SameNames(self.run_dir))
        self.install_in_child()

    def settle(self) -> None:
        """The followers are about to start; see [Note: early and late]."""
        Journal(self.run_dir).settle()

    def install_in_child(self) -> None:
        """As `install`, in a process that the script started afresh."""
        seams = LeaderSeams(Journal(self.run_dir), shared_paths(self.run_dir))
        self._install(seams, LeaderPaths(seams), f"LeaderFiles({self.run_dir!r})")


class FollowerFiles(_Files):
    """Files of a follower.

    Args:
        run_dir: directory of the run.
        index: of this worker.
    """

    def __init__(self, run_dir: str, index: int) -> None:
        super().__init__(run_dir)
        self._index = index
        root = posixpath.join(self.run_dir, f"overlay-{index}")
        self._view = View(self.run_dir, root, shared_paths(self.run_dir))

    def install(self) -> None:
        """Send, from now on, what the script writes to the overlay."""
        Journal(self.run_dir).settle()  # if the leader died before it could
        self._patches.replace(tempfile, "_name_sequence", SameNames(self.run_dir))
        self.install_in_child()

    def install_in_child(self) -> None:
        """As `install`, in a process that the script started afresh."""
        overlay = Overlay(self._view)
        again = f"FollowerFiles({self.run_dir!r}, {self._index})"
        self._install(FollowerSeams(overlay), FollowerPaths(overlay), again)

    def promote(self) -> LeaderFiles:
        """Make this follower's files real; what it returns is installed in place of this."""
        self.undo()
        merge(self._view)
        return LeaderFiles(self.run_dir)
