"""Fixtures that more than one test file uses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.like_python import LikePython


@pytest.fixture(scope="session")
def like_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LikePython]:
    """Runs programs under plain python and under pellucid; plain results are kept."""
    runner = LikePython(tmp_path_factory.mktemp("like_python"))
    yield runner
    runner.stop()
