"""Boxes for tests, where they can be made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from tests.boxes.namespaces import Namespaces, why_not

_why_not = cache(why_not)


@pytest.fixture
def make_boxes() -> Iterator[Callable[..., Namespaces]]:
    """Make boxes: ``make_boxes(3, rate="10mbit")``; they are gone after the test."""
    if (reason := _why_not()) is not None:
        pytest.skip(reason)
    made: list[Namespaces] = []

    def make(count: int, *, rate: str | None = None) -> Namespaces:
        made.append(Namespaces(count, rate=rate))
        return made[-1]

    yield make
    for boxes in made:
        boxes.close()
