"""Ordinary scripts do the same under ``pellucid run`` as under ``python``.

Every program of ``tests/programs`` runs on 2 workers, and every eighth, among the slow tests, also
on 3. Importing torch would take nearly all of the time: see `warm_python.py`. With pytest-xdist,
``--dist loadgroup`` keeps the runs of one program together, so that plain python runs it once.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.like_python import LikePython, Program, programs

PROGRAMS = {program.name: program for program in programs()}


def cases() -> list[Any]:
    """Programs times workers, the slow ones marked."""
    found = []
    for k, program in enumerate(PROGRAMS.values()):
        for workers in (2, 3) if k % 8 == 0 else (2,):
            marks = [pytest.mark.xdist_group(program.name), pytest.mark.timeout(300)]
            if workers > 2 or program.slow:
                marks.append(pytest.mark.slow)
            found.append(
                pytest.param(program, workers, marks=marks, id=f"{program.name}-{workers}")
            )
    return found


@pytest.mark.parametrize(("program", "workers"), cases())
def test_a_program_does_what_it_does_under_python(
    like_python: LikePython, program: Program, workers: int
) -> None:
    report = like_python.run_both(program, workers).report()
    if report:
        pytest.fail(report, pytrace=False)


# one that gains by being divided, one that does not, one without a loader, one with two models,
# one whose followers stand down while batches are split, one whose loader processes are kept
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name",
    [
        "stranger_cifar_resnet",
        "stranger_mnist",
        "noloader_get_batch",
        "stranger_dcgan",
        "around_small_model",
        "loader_random_persistent_workers",
    ],
)
def test_left_to_itself_it_does_the_same(like_python: LikePython, name: str) -> None:
    report = like_python.run_both(PROGRAMS[name], 2, split="auto").report()
    if report:
        pytest.fail(report, pytrace=False)


@pytest.mark.timeout(300)
def test_workers_that_would_slow_it_down_stand_down(like_python: LikePython) -> None:
    both = like_python.run_both(PROGRAMS["around_slow_slices"], 2, split="auto", quiet=False)
    assert not both.differences(), both.report()
    assert "one process with all threads trains this model faster" in both.ours.stderr
