"""A group of workers that are processes, each with exact mode installed: what threads cannot share.

The processes are forked from a server that has torch imported, so that a group costs little. Each
runs one function of a test module, with the mode as its only argument, and sends back what it
returns.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from pellucid.errors import StoppedError
from pellucid.transport.board import Board, Flag
from pellucid.transport.memory import create

__all__ = ["run_in_processes"]

TIMEOUT = 60.0
SEED = 1234

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["tests.group_of_processes", "pellucid.sync.exact.mode"])


def run_in_processes(workers: int, work: Callable[..., Any], *args: Any) -> list[Any]:
    """Have each of some workers call ``work(mode, told, *args)``; return what they returned.

    Args:
        workers: how many.
        work: a function of a module; ``told`` is a list to which the mode adds what it tells
            the user, as pairs (event, text).
        args: further arguments, of any kind that pickles.

    Raises:
        AssertionError: a worker raised: its traceback, rather that of a cause than of those who
            were unwound because of it.
    """
    board, memory = Board.create(workers), create(workers)
    ours = f"/proc/{os.getpid()}/fd"
    files = (f"{ours}/{board.fd}", f"{ours}/{memory}")
    pipes = [_server.Pipe(duplex=False) for _ in range(workers)]
    processes = [
        _server.Process(
            target=_body, args=(w, workers, files, pipes[w][1], work, args), daemon=True
        )
        for w in range(workers)
    ]
    for process, (_, theirs) in zip(processes, pipes, strict=True):
        process.start()
        theirs.close()
    try:
        answers = _answers([ours for ours, _ in pipes], board)
    finally:
        for process in processes:
            process.kill()
            process.join()
        os.close(memory)
        os.close(board.fd)
    failed = sorted((stopped, text) for worked, stopped, text in answers if not worked)
    assert not failed, failed[0][1]
    return [result for _, _, result in answers]


def _answers(pipes: list[Connection], board: Board) -> list[tuple[bool, bool, Any]]:
    """What each worker sends; when one fails, the others are stopped."""
    answers: dict[Connection, tuple[bool, bool, Any]] = {}
    while len(answers) < len(pipes):
        ready = wait([p for p in pipes if p not in answers], TIMEOUT)
        assert ready, "the workers wait for each other for ever"
        for pipe in ready:
            assert isinstance(pipe, Connection)
            try:
                answers[pipe] = pipe.recv()
            except EOFError:
                answers[pipe] = (False, False, "a worker died")
            if not answers[pipe][0]:
                board.flags[Flag.STOP] = 1
    return [answers[p] for p in pipes]


def _body(
    index: int,
    workers: int,
    files: tuple[str, str],
    answer: Connection,
    work: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    try:
        mode, told = _install(index, workers, files)
        result = work(mode, told, *args)
        answer.send((True, False, result))
    except BaseException as error:
        answer.send((False, isinstance(error, StoppedError), traceback.format_exc()))


def _install(index: int, workers: int, files: tuple[str, str]) -> tuple[Any, list[Any]]:
    """Exact mode in this process, as ``worker.py`` installs it."""
    import torch

    from pellucid.intercept.functions import patch_functions
    from pellucid.intercept.loaders import patch_loaders
    from pellucid.intercept.modules import patch_modules
    from pellucid.intercept.patch import Patches
    from pellucid.intercept.seeds import patch_entropy
    from pellucid.sync.exact.mode import ExactMode
    from pellucid.transport.shared_memory import Group

    torch.set_num_threads(1)
    descriptors = [os.open(file, os.O_RDWR) for file in files]
    group = Group(descriptors[1], Board(descriptors[0], workers), index)
    told: list[Any] = []
    mode = ExactMode(group, lambda *said: told.append(said), lambda: None, always_split=True)
    patches = Patches()
    patch_entropy(patches, SEED)
    patch_loaders(patches, mode.loaders.iterate)
    patch_modules(patches, mode.calls.call)
    patch_functions(patches, mode.seams())
    return mode, told
