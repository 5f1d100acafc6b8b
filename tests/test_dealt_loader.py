"""Dealt loaders in workers that are processes; `tests/programs` compares them with plain python."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from pellucid.sync.exact import handover, history
from tests.group_of_processes import run_in_processes

WORKERS = 3


class Noise(Dataset[Any]):
    """Samples that are random, with something of a certain size beside them."""

    def __init__(self, beside: int = 0) -> None:
        self.beside = "x" * beside

    def __len__(self) -> int:
        return 24

    def __getitem__(self, i: int) -> Any:
        return i + torch.rand(()), self.beside


class Stream(IterableDataset[Any]):
    """Random numbers, more of them in processes with a higher number."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        info = get_worker_info()
        assert info is not None
        for _ in range(2 + 5 * info.id):
            yield info.id + torch.rand(())


def numbers(batches: Any) -> list[list[float]]:
    """The batches' values."""
    return [(b[0] if isinstance(b, list) else b).tolist() for b in batches]


def plain(loader: DataLoader[Any], epochs: int) -> list[list[float]]:
    """What a loader gives without pellucid."""
    torch.manual_seed(1)
    return [batch for _ in range(epochs) for batch in numbers(loader)]


def loaders(beside: int = 0) -> dict[str, DataLoader[Any]]:
    """Of each kind one, with two processes."""
    # a forked worker would otherwise fork its processes from a server, of which they were children
    two: dict[str, Any] = {"num_workers": 2, "multiprocessing_context": "fork"}
    noise = Noise(beside)
    return {
        "random": DataLoader(noise, 4, shuffle=True, **two),
        "kept": DataLoader(noise, 4, shuffle=True, persistent_workers=True, **two),
        "stream": DataLoader(Stream(), 3, **two),
    }


def _may_have_children() -> None:
    """Make a worker of the tests a process like any other, with a folder of its own for sockets."""
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    config["daemon"] = False
    config.pop("tempdir", None)


def _processes(_: Any, told: list[Any], kind: str) -> tuple[list[list[float]], list[int], Any]:
    _may_have_children()
    torch.manual_seed(1)
    loader = loaders()[kind]
    got, counts = [], []
    for _ in range(2):
        batches = iter(loader)
        got += numbers([next(batches)])
        counts.append(len(psutil.Process().children()))
        got += numbers(batches)
        del batches
    return got, counts, [text for _, text in told]


@pytest.mark.parametrize("kind", loaders())
def test_only_as_many_processes_are_started_as_the_loader_has(kind: str) -> None:
    results = run_in_processes(WORKERS, _processes, kind)
    expected = plain(loaders()[kind], 2)
    assert all(got == expected for got, _, _ in results)
    for counts in zip(*(counts for _, counts, _ in results), strict=True):
        assert counts == (1, 1, 0)
    said = [] if kind == "stream" else [
        "the loader processes of Noise (2 in all) are dealt out over the workers: "
        "its samples draw random numbers or count"
    ]  # fmt: skip
    assert results[0][2] == said


def _cramped(_: Any, told: list[Any]) -> tuple[list[list[float]], Any]:
    _may_have_children()
    handover.ROOM = 5_000  # type: ignore[misc]
    torch.manual_seed(1)
    loader = loaders(9_000)["kept"]
    return numbers(loader) + numbers(loader), [text for _, text in told]


def test_batches_that_cannot_be_handed_over_are_loaded_whole() -> None:
    results = run_in_processes(2, _cramped)
    expected = plain(loaders()["kept"], 2)
    assert all(got == expected for got, _ in results)
    assert results[0][1][1] == (
        "every worker loads whole batches of Noise: they cannot be sent from one process to another"
    )


def _threaded(_: Any, __: list[Any], kind: str, replayed: int) -> list[list[float]]:
    _may_have_children()
    history.REPLAYED = replayed  # type: ignore[misc]
    torch.manual_seed(1)
    loader = loaders()[kind]
    got = numbers(loader)
    batches = iter(loader)
    got += numbers([next(batches), next(batches)])
    thread = threading.Thread(target=lambda: got.extend(numbers(batches)))
    thread.start()
    thread.join()
    return got


@pytest.mark.parametrize("kind", loaders())
def test_a_pass_may_go_on_in_another_thread(kind: str) -> None:
    """There is no exchange there: each worker goes on by itself, from where the pass was."""
    expected = plain(loaders()[kind], 2)
    assert run_in_processes(2, _threaded, kind, history.REPLAYED) == [expected, expected]


def test_processes_that_start_anew_after_many_batches_draw_other_numbers_for_the_same_rows() -> (
    None
):
    got, also = run_in_processes(2, _threaded, "kept", 0)
    expected = plain(loaders()["kept"], 2)
    assert got == also
    assert got[:6] == expected[:6]
    assert got[6:] != expected[6:]
    assert [[int(x) for x in batch] for batch in got] == [[int(x) for x in b] for b in expected]
