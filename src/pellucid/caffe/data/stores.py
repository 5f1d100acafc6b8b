"""Databases of records in a fixed order: LMDB and LevelDB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from pellucid.caffe.errors import CaffeError

__all__ = ["LevelStore", "LmdbStore", "Store", "open_store"]


class Store(Protocol):
    """Records by position, in the order of their keys."""

    path: str

    def __len__(self) -> int:
        """How many there are."""

    def read(self, positions: Sequence[int]) -> list[bytes]:
        """The records at these positions."""


def open_store(path: str, backend: str) -> Store:
    """Open a database for reading.

    Args:
        path: its folder.
        backend: LMDB or LEVELDB.

    Raises:
        CaffeError: there is none, or it is of the other kind or damaged.
    """
    if not Path(path).exists():
        msg = f"there is no database {path}: paths are taken from the folder the program runs in"
        raise CaffeError(msg)
    found = "LMDB" if (Path(path) / "data.mdb").exists() or Path(path).is_file() else "LEVELDB"
    if found != backend:
        msg = f"{path} is a {found} database, and the layer says backend: {backend}. Change that"
        raise CaffeError(msg)
    return LmdbStore(path) if backend == "LMDB" else LevelStore(path)


class _Lazy:
    """Opened where it is first used: a handle must not cross a fork."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._opened: Any = None
        self._keys = self._list()
        if not self._keys:
            msg = f"{path} holds no records: an empty or cut off database"
            raise CaffeError(msg)

    def _list(self) -> list[bytes]:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._keys)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": None}


class LmdbStore(_Lazy):
    """An LMDB database, read through the page cache by any number of processes."""

    def _open(self) -> Any:
        import lmdb

        try:
            folder = Path(self.path).is_dir()
            return lmdb.open(
                self.path, subdir=folder, readonly=True, lock=False, readahead=False, max_readers=1
            )
        except lmdb.Error as error:
            msg = f"cannot open the LMDB database {self.path}: {error}"
            raise CaffeError(msg) from error

    def _list(self) -> list[bytes]:
        import lmdb

        environment = self._open()
        try:
            self._check_size(environment)
            with environment.begin() as transaction:
                return [bytes(key) for key in transaction.cursor().iternext(values=False)]
        except lmdb.Error as error:
            msg = f"the LMDB database {self.path} is damaged: {error}"
            raise CaffeError(msg) from error
        finally:
            environment.close()

    def _check_size(self, environment: Any) -> None:
        """Refuse a file that is cut off: to read behind its end would kill the process (SIGBUS)."""
        path = Path(self.path)
        size = (path / "data.mdb" if path.is_dir() else path).stat().st_size
        wanted = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        if size < wanted:
            msg = (
                f"the LMDB database {self.path} is cut off: it has {size} bytes and should have "
                f"{wanted}. Copy or convert it again"
            )
            raise CaffeError(msg)

    def read(self, positions: Sequence[int]) -> list[bytes]:
        """The records at these positions, in one transaction."""
        import lmdb

        if self._opened is None:
            self._opened = self._open()
        try:
            with self._opened.begin() as transaction:
                return [transaction.get(self._keys[k]) for k in positions]
        except lmdb.Error as error:
            msg = f"the LMDB database {self.path} is damaged: {error}"
            raise CaffeError(msg) from error


class LevelStore(_Lazy):
    """A LevelDB database. Only one process can have it open: each opens it for a moment."""

    def _list(self) -> list[bytes]:
        with self._open() as database:
            return list(database.iterator(include_value=False))

    def _open(self) -> Any:
        import plyvel

        try:
            return plyvel.DB(self.path)
        except (plyvel.Error, OSError) as error:
            msg = f"cannot open the LevelDB database {self.path}: {error}"
            raise CaffeError(msg) from error

    def read(self, positions: Sequence[int]) -> list[bytes]:
        """The records at these positions."""
        if self._opened is None:  # all of it: LevelDB's lock keeps other workers out
            with self._open() as database:
                self._opened = list(database.iterator(include_key=False))
        return [self._opened[k] for k in positions]
