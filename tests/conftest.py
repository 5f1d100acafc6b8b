"""Fixtures that more than one test file uses."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from tests.like_python import LikePython


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long boxes are killed and brought back, in seconds."""
    parser.addoption("--soak", default="20", help="seconds of tests/boxes; 600 is the full length")


@pytest.fixture(scope="session")
def like_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LikePython]:
    """Runs programs under plain python and under pellucid; plain results are kept."""
    runner = LikePython(tmp_path_factory.mktemp("like_python"))
    yield runner
    runner.stop()


def pytest_configure() -> None:
    """What a shell starts with ``&`` ignores Ctrl-C, and so would all that the tests start."""
    for number in (signal.SIGINT, signal.SIGHUP):
        ignored = signal.getsignal(number) is signal.SIG_IGN
        if ignored and threading.current_thread() is threading.main_thread():
            handler = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, handler)
