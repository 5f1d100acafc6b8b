"""A group of workers that are threads of this process: the exchange without the processes.

Each thread maps the memory and the board for itself, as a process would. What is global to a
process (random generators, patches, the current region) they share, so only parts that do not
touch it can be tried here; see ``group_of_processes.py`` for the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pellucid.transport import shared_memory
from pellucid.transport.board import Board, Field, Flag, State
from pellucid.transport.memory import create
from pellucid.transport.shared_memory import Group

__all__ = ["Crowd", "DiedError", "bury"]

T = TypeVar("T")
TIMEOUT = 10.0

# threads that spin take the interpreter away from the one they wait for: let them nap at once
shared_memory.SPIN = 0  # type: ignore[misc]
shared_memory.NAP_AFTER = 0  # type: ignore[misc]


class DiedError(BaseException):
    """Ends a thread as SIGKILL would end a process."""


def bury(board: Board, worker: int) -> None:
    """Tell the others that a worker is certainly gone, as the launcher does."""
    epoch = int(board.flags[Flag.EPOCH]) + 1
    board.fields[worker][Field.DIED] = epoch
    board.fields[worker][Field.STATE] = State.DEAD
    board.flags[Flag.EPOCH] = epoch


class Crowd:
    """Some workers.

    Args:
        workers: how many.
    """

    def __init__(self, workers: int) -> None:
        self.board = Board.create(workers)
        memory = create(workers)
        boards = [Board(self.board.fd, workers) for _ in range(workers)]
        self.groups = [Group(memory, board, w) for w, board in enumerate(boards)]
        self._burying = threading.Lock()

    def run(self, work: Callable[[Group], T]) -> dict[int, T]:
        """Have every worker that lives do this work at once; return what each came to.

        A worker whose work raises `DiedError` is dead from then on. Any other exception stops all
        and is raised here: that of the lowest worker, but rather a cause than a consequence.
        """
        results: dict[int, T] = {}
        errors: dict[int, BaseException] = {}

        def body(group: Group) -> None:
            try:
                results[group.index] = work(group)
            except DiedError:
                with self._burying:
                    bury(self.board, group.index)
            except BaseException as error:
                errors[group.index] = error
                self.board.flags[Flag.STOP] = 1

        threads = [
            threading.Thread(target=body, args=(self.groups[w],), daemon=True)
            for w in self.board.alive()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
            if thread.is_alive():
                self.board.flags[Flag.STOP] = 1
                thread.join(TIMEOUT)
                errors.setdefault(-1, TimeoutError("the workers wait for each other for ever"))
        self._raise(errors)
        return results

    def raised(self, work: Callable[[Group], Any], kind: type[BaseException]) -> dict[int, str]:
        """Run work of which each worker is to raise an exception of this kind; their texts."""

        def caught(group: Group) -> str:
            try:
                work(group)
            except kind as error:
                return str(error)
            msg = f"worker {group.index} did not raise {kind.__name__}"
            raise AssertionError(msg)

        return self.run(caught)

    @staticmethod
    def _raise(errors: dict[int, BaseException]) -> None:
        ranked = sorted(errors.items(), key=lambda e: (type(e[1]).__name__ == "StoppedError", e[0]))
        if ranked:
            raise ranked[0][1]
