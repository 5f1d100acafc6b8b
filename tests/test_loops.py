"""The line of a script's loop, for the message that names it."""

from __future__ import annotations

import sys
import textwrap

import pytest

from pellucid.sync.shared.loops import Loop, innermost_loop, loop_around

SCRIPT = textwrap.dedent(
    """
    def train(batch):
        loss(batch).backward()
        optimizer.step()  # line 4

    for epoch in range(10):
        for i, batch in enumerate(zip(xs, ys)):
            if i:
                train(batch)  # line 9
        while loss > 1:
            optimizer.step()  # line 11
        evaluate()  # line 12

    for x in [optimizer.step()]:  # line 14
        pass
    """
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (4, None),
        (9, (7, "for i, batch in pellucid.share(enumerate(zip(xs, ys))):")),
        (11, (10, "")),
        (12, (6, "for epoch in pellucid.share(range(10)):")),
        (14, None),
    ],
)
def test_the_innermost_loop(line: int, expected: tuple[int, str] | None) -> None:
    found = innermost_loop(SCRIPT, line)
    assert (found and (found.line, found.shared)) == expected


def test_what_is_no_python_has_no_loops() -> None:
    assert innermost_loop("for in", 1) is None


def test_the_loop_may_be_a_callers() -> None:
    def step() -> Loop | None:
        inner = sys._getframe()
        assert inner.f_back is not None
        return loop_around([inner, inner.f_back])

    for _ in range(1):
        found = step()
    assert found is not None
    assert found.text == "for _ in range(1):"
