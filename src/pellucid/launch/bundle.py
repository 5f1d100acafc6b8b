"""A script and its files in one piece, and what a box does that receives one.

[Note: bundle]
A bundle is a *list* (JSON: path, size, SHA-256, and so on, of each file) and after it the contents
of all files, one after the other. Its *digest* is the SHA-256 of the list, which names everything
in it. A box that unpacks one trusts nothing: every entry of the list is checked before the first
byte is written, all files go into a new folder, and each is compared with its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, NoReturn

import msgspec

from pellucid.errors import LaunchError
from pellucid.launch.sources import MOST_FILES, Sources, is_inner_link

__all__ = ["Bundle", "Entry", "is_inner", "pack", "summary", "unpack"]

PIECE: Final = 1 << 20  # bytes read and written at a time
LARGEST_LIST: Final = 32 << 20  # MOST_FILES long names
LENGTH_BYTES: Final = 8
SHOWN: Final = 5


class Entry(msgspec.Struct, frozen=True):
    """One file of a bundle.

    Attributes:
        path: relative, with ``/``.
        size: bytes.
        digest: SHA-256 of the contents, in hexadecimal; empty for a link.
        executable: whether its owner may run it.
        link: where a symbolic link leads to; empty for a file.
    """

    path: str
    size: int
    digest: str
    executable: bool = False
    link: str = ""


@dataclass(frozen=True)
class Bundle:
    """A packed bundle in a file.

    Attributes:
        path: the file.
        entries: what is in it.
        digest: SHA-256 of the list of them.
        size: bytes of the file.
    """

    path: Path
    entries: tuple[Entry, ...]
    digest: str
    size: int


def pack(sources: Sources, path: Path, *, limit: int) -> Bundle:
    """Copy the files of a script into one, as they are now.

    Args:
        sources: the files.
        path: the file to be made.
        limit: bytes they may take together.

    Raises:
        LaunchError: they take more, or one cannot be read.
    """
    if sources.size > limit:
        raise LaunchError(_too_big(sources, limit))
    entries = tuple(
        _entry(sources.root, file.path, file.executable, file.link) for file in sources.files
    )
    listed = _dump(entries)
    with path.open("wb") as out:
        out.write(len(listed).to_bytes(LENGTH_BYTES, "big") + listed)
        for entry in entries:
            if not entry.link:
                _copy(sources.root, entry, out)
        size = out.tell()
    return Bundle(path, entries, hashlib.sha256(listed).hexdigest(), size)


def unpack(path: Path, folder: Path, *, digest: str, limit: int) -> Bundle:
    """Check a bundle that came from elsewhere, and put its files into a new folder.

    Args:
        path: the file.
        folder: where to; it must not exist.
        digest: SHA-256 of its list, as it was announced.
        limit: bytes its files may take together.

    Raises:
        LaunchError: it is not what was announced, or holds what must not be.
    """
    with path.open("rb") as packed:
        size = int.from_bytes(packed.read(LENGTH_BYTES), "big")
        if size > LARGEST_LIST:
            _refuse(f"its list takes {size:,} bytes")
        listed = packed.read(size)
        if hashlib.sha256(listed).hexdigest() != digest:
            _refuse("its list is not the one that was announced")
        entries = _load(listed)
        _check(entries, limit)
        folder.mkdir(mode=0o700, parents=True)
        for entry in entries:
            if not entry.link:
                _put(packed, entry, folder)
        if packed.read(1):
            _refuse("there are bytes after its last file")
        total = packed.tell()
    for entry in entries:  # links last: nothing is written through one
        if entry.link:
            _parent(folder, entry).symlink_to(entry.link)
    return Bundle(path, entries, digest, total)


def summary(bundle: Bundle, left_out: Sequence[str] = ()) -> str:
    """What is in a bundle, for people: number, size, digest, largest files, what is missing."""
    largest = sorted(bundle.entries, key=lambda entry: -entry.size)[:SHOWN]
    names = ", ".join(f"{entry.path} ({_bytes(entry.size)})" for entry in largest)
    more = len(bundle.entries) - len(largest)
    text = (
        f"{len(bundle.entries)} files, {_bytes(sum(e.size for e in bundle.entries))}, "
        f"{bundle.digest[:12]}: {names}" + (f" and {more} smaller ones" if more > 0 else "")
    )
    return text + "".join(f"\n  not sent: {reason}" for reason in left_out)


def _entry(root: Path, name: str, executable: bool, link: str) -> Entry:
    if link:
        return Entry(name, 0, "", link=link)
    digest, size = hashlib.sha256(), 0
    try:
        with (root / name).open("rb") as file:
            for piece in iter(lambda: file.read(PIECE), b""):
                digest.update(piece)
                size += len(piece)
    except OSError as error:
        msg = (
            f"cannot read {root / name} to send it to other boxes: {error.strerror}. "
            "Make it readable, or take it out of the folder"
        )
        raise LaunchError(msg) from error
    return Entry(name, size, digest.hexdigest(), executable)


def _copy(root: Path, entry: Entry, out: IO[bytes]) -> None:
    digest = hashlib.sha256()
    with (root / entry.path).open("rb") as file:
        for piece in _pieces(file, entry.size):
            digest.update(piece)
            out.write(piece)
    if digest.hexdigest() != entry.digest:
        msg = f"{root / entry.path} changed while it was packed for other boxes. Start again"
        raise LaunchError(msg)


def _put(packed: IO[bytes], entry: Entry, folder: Path) -> None:
    path = _parent(folder, entry)
    digest, left = hashlib.sha256(), entry.size
    mode = 0o700 if entry.executable else 0o600
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, mode), "wb") as out:
        for piece in _pieces(packed, entry.size):
            digest.update(piece)
            out.write(piece)
            left -= len(piece)
    if left or digest.hexdigest() != entry.digest:
        _refuse(f"the contents of {entry.path!r} are not what its list says")


def _pieces(file: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (piece := file.read(min(PIECE, size))):
        size -= len(piece)
        yield piece


def _parent(folder: Path, entry: Entry) -> Path:
    path = folder / entry.path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _dump(entries: Sequence[Entry]) -> bytes:
    # json of the standard library carries names that are no valid UTF-8, msgspec does not
    return json.dumps(msgspec.to_builtins(entries)).encode()


def _load(listed: bytes) -> tuple[Entry, ...]:
    try:
        read: Any = json.loads(listed)
        return msgspec.convert(read, tuple[Entry, ...])
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors too
        _refuse(f"its list cannot be read ({error})")


def _check(entries: Sequence[Entry], limit: int) -> None:
    """Look at all of a list before anything is made of it."""
    if len(entries) > MOST_FILES:
        _refuse(f"it holds {len(entries):,} files")
    if any(entry.size < 0 for entry in entries) or sum(e.size for e in entries) > limit:
        _refuse(
            f"its files take more than the {_bytes(limit)} that this box allows "
            "(--bundle-limit raises that)"
        )
    files = set()
    for entry in entries:
        if not is_inner(entry.path):
            _refuse(f"{entry.path!r} would lie outside of its folder")
        if entry.link and not is_inner_link(entry.path, entry.link):
            _refuse(f"the link {entry.path!r} would lead out of its folder, to {entry.link!r}")
        if entry.path in files:
            _refuse(f"{entry.path!r} is in it twice")
        files.add(entry.path)
    for entry in entries:
        if any(str(parent) in files for parent in PurePosixPath(entry.path).parents):
            _refuse(f"{entry.path!r} would lie in something that is no folder")


def is_inner(path: str) -> bool:
    """Whether a path is plain, relative, and stays where it starts."""
    parts = path.split("/")
    return not ({"", ".", ".."} & set(parts) or "\0" in path)


def _refuse(reason: str) -> NoReturn:
    msg = (
        f"refused the files that the other box sent: {reason}. They were damaged on the way, or "
        "that box is not to be trusted"
    )
    raise LaunchError(msg)


def _too_big(sources: Sources, limit: int) -> str:
    largest = sorted(sources.files, key=lambda file: -file.size)[:SHOWN]
    names = ", ".join(f"{file.path} ({_bytes(file.size)})" for file in largest)
    remedy = (
        "Take large files out of git (each box must then have them)"
        if sources.tracked
        else "Move data elsewhere (each box must then have it), or put the script into a git work "
        "tree, of which only tracked files are sent"
    )
    return (
        f"{sources.root} holds {_bytes(sources.size)} in {len(sources.files)} files, more than the "
        f"{_bytes(limit)} that are sent to other boxes. Largest: {names}. {remedy}, or raise "
        "--bundle-limit"
    )


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
