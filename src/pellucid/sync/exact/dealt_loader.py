"""The rung of dealt loaders: each of a loader's processes runs on one worker, for all of them.

[Note: processes elsewhere]
Which process makes a batch, when it is asked for it and what its random numbers are is torch's to
say. So each worker runs torch's own iterator, with all n processes, and what this iterator draws
from samplers and generators is what it would draw under plain python. Only, where torch starts a
process that another worker has, a stand-in takes its place: what is sent to it is dropped, for the
other worker's iterator sends the same to the real one. The one thing answered differently is where
the next batch comes from (`_get_data`): it is taken from the process by the worker that has it, and
handed to the others. Batches come strictly in order that way, also the news that a process has no
more: so all workers hear of it at the same batch.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Iterator
from multiprocessing.context import BaseContext
from typing import Any

import torch.multiprocessing
from torch.utils.data import DataLoader
from torch.utils.data._utils.worker import _ResumeIteration
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from pellucid.sync.exact.drawn import hash_of
from pellucid.sync.exact.handover import LostError, hand_round
from pellucid.transport.shared_memory import Group

__all__ = ["DealtBatches", "can_deal"]


def can_deal(loader: Any, group: Group) -> bool:
    """Whether a loader has processes that can be dealt out, and has not started them already."""
    return (
        isinstance(loader, DataLoader)
        and loader.num_workers > 0
        and len(group.living) > 1
        and type(loader)._get_iterator is DataLoader._get_iterator
        and vars(loader).get("_iterator") is None
    )


class DealtBatches(_MultiProcessingDataLoaderIter):
    """The batches of a loader, of which some processes are here; see [Note: processes elsewhere].

    Args:
        loader: the script's.
        group: the workers; all begin at the same time.
    """

    def __init__(self, loader: Any, group: Group) -> None:
        self._group = group
        living = group.living
        self._places = [living[k % len(living)] for k in range(loader.num_workers)]
        self._here = [place == group.index for place in self._places]
        self._drawn = 0  # a hash of what the sampler gave so far
        like = copy.copy(loader)
        like.multiprocessing_context = _Context(loader.multiprocessing_context, self._here)
        super().__init__(like)

    def begin(self, loader: Any) -> Iterator[Any]:
        """Begin another pass, with the same processes."""
        self._index_sampler = loader._index_sampler
        self._reset(loader)
        return self

    def _reset(self, loader: Any, first_iter: bool = False) -> None:
        self._early: dict[int, Any] = {}  # by task, what came from our processes before its turn
        self._rows: dict[int, int] = {}  # by task, of batches that are asked for by index
        self._resumed: list[Any] = []
        queues: list[Any] = self._index_queues
        for k, here in enumerate(self._here):
            if not here:
                queues[k] = _QueueElsewhere(self._resumed)
        super()._reset(loader, first_iter)

    def _next_index(self) -> Any:
        index = super()._next_index()
        if self._auto_collation and isinstance(index, Collection):
            self._rows[self._send_idx] = len(index)
            self._drawn = hash((self._drawn, hash_of(list(index))))
        return index

    def _get_data(self) -> Any:
        task = self._rcvd_idx
        if task not in self._task_info:  # between passes, the processes say that they are ready
            return self._resumed.pop() if self._resumed else super()._get_data()
        group = self._group
        source = self._places[self._task_info[task][0]]
        mine = source == group.index
        data = self._own(task) if mine else None
        rows = self._rows.pop(task, None)
        if len(group.living) > 1:
            data = hand_round(group, self._drawn, rows, source, data)
        elif not mine:
            raise LostError
        if isinstance(data, _Raised):
            raise data.error
        return task, data

    def _own(self, task: int) -> Any:
        """What our process made of this task."""
        try:
            while task not in self._early:
                done, data = super()._get_data()
                self._early[done] = data
        except Exception as error:  # a timeout, or a process was killed: all are to hear of it
            return _Raised(error)
        return self._early.pop(task)


class _Raised:
    """Stands for a batch in whose place waiting for it raised."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Context(BaseContext):
    """Starts those of a loader's processes that are here.

    Args:
        inner: the context of the script's choice.
        here: of each process, in the order of starting them.
    """

    def __init__(self, inner: Any, here: list[bool]) -> None:
        self._inner = inner or torch.multiprocessing
        self._here = iter(here)

    def Queue(self, *args: Any, **kwargs: Any) -> Any:  # noqa: N802 - its name
        """A queue, as ever."""
        return self._inner.Queue(*args, **kwargs)

    def Event(self) -> Any:  # noqa: N802 - its name
        """An event, as ever."""
        return self._inner.Event()

    def Process(self, *args: Any, **kwargs: Any) -> Any:  # noqa: N802 - its name
        """The next process."""
        return self._inner.Process(*args, **kwargs) if next(self._here) else _ProcessElsewhere()


class _ProcessElsewhere:
    """Stands for a process that another worker has."""

    def __init__(self) -> None:
        self.daemon = True
        self.pid = os.getpid()  # torch asks the system for news of its children: this is none

    def start(self) -> None:
        """It is started elsewhere."""

    def is_alive(self) -> bool:
        """Whoever has it will know."""
        return True

    def join(self, timeout: float | None = None) -> None:
        """Nobody is to wait for it here."""

    def terminate(self) -> None:
        """It is ended elsewhere."""


class _QueueElsewhere:
    """Stands for the queue to a process that another worker has.

    Args:
        resumed: where to note that the process is ready for the next pass.
    """

    def __init__(self, resumed: list[Any]) -> None:
        self.resumed = resumed

    def put(self, task: Any) -> None:
        """The other worker puts the same into the real one."""
        if isinstance(task, _ResumeIteration):
            self.resumed.append((task, None))

    def cancel_join_thread(self) -> None:
        """There is no thread."""

    def close(self) -> None:
        """There is nothing to close."""
