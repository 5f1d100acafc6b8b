"""Secrets and what is made of them."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from pellucid.errors import SettingsError
from pellucid.transport import identity
from pellucid.transport.identity import Identity, generate_secret, read_secret


def test_generated_secrets_can_be_pasted_and_differ() -> None:
    one, two = generate_secret(), generate_secret()
    assert re.fullmatch("[a-z2-7]{52}", one)
    assert one != two


def test_a_secret_comes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"\n  {'s' * 30}\n")
    path.chmod(0o600)
    assert read_secret(str(path)) == "s" * 30
    path.chmod(0o400)
    assert read_secret(str(path)) == "s" * 30


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    path.write_text("s" * 30)
    path.chmod(mode)
    with pytest.raises(SettingsError, match=f"others may read or change it. Do: chmod 600 {path}"):
        read_secret(str(path))


def test_a_pipe_will_do() -> None:
    read, write = os.pipe()
    os.write(write, b"s" * 30)
    os.close(write)
    assert read_secret(f"/dev/fd/{read}") == "s" * 30
    os.close(read)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"short", "has 5 characters; it needs at least 20"),
        (b"  \n", "has 0 characters"),
        (b"x" * 5000, "at most 4096"),
        (b"\xff" * 30, "cannot be read"),
    ],
)
def test_a_secret_that_will_not_do_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match=words):
        read_secret(str(path))


def test_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"secret_file = '{tmp_path}/none': cannot be read"):
        read_secret(f"{tmp_path}/none")


def test_all_boxes_make_the_same_of_a_secret() -> None:
    one, two, other = Identity("s" * 30), Identity("s" * 30), Identity("t" * 30)
    assert one.proof_key == two.proof_key != other.proof_key
    assert identity._certificate(b"k" * 32) == identity._certificate(b"k" * 32)
    assert identity._certificate(b"k" * 32) != identity._certificate(b"l" * 32)


def test_a_secret_is_not_shown() -> None:
    shown = repr(Identity("s" * 30, encrypted=False))
    assert shown == "Identity(encrypted=False)"
    assert Identity("s" * 30, encrypted=False).wrap(dials=True) is None


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(SettingsError, match=r"pip install 'pellucid\[boxes\]'"):
        Identity("s" * 30)
    Identity("s" * 30, encrypted=False)
