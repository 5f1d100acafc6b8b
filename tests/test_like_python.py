"""Ordinary scripts do the same under ``pellucid run`` as under ``python``.

Every program of ``tests/programs`` runs on 2 workers, and, among the slow tests, on 3. A pair of
runs costs 4 to 8 seconds, nearly all of it three imports of torch: the fast half of the corpus
takes about a quarter of an hour on 2 cores. With pytest-xdist, ``--dist loadgroup`` keeps
the runs of one program together, so that plain python runs it once.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.like_python import LikePython, Program, programs


def cases() -> list[Any]:
    """Programs times workers, the slow ones marked."""
    found = []
    for program in programs():
        for workers in (2, 3):
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
