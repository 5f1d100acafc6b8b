"""Write a database of Datums, whole or not at all: LMDB or LevelDB."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pellucid.caffe.errors import CaffeError

__all__ = ["write_database"]

_AT_ONCE = 1000
_MOST_BYTES = 1 << 40  # of address space, not of the disk

Records = Iterable[tuple[str, Any]]


def write_database(path: str | Path, records: Records, backend: str = "LMDB") -> int:
    """Write records, keys and Datums, to a new database.

    Args:
        path: its folder.
        records: in the order of their keys.
        backend: LMDB or LEVELDB.

    Returns:
        How many were written.

    Raises:
        CaffeError: there is something at the path already, or its folder is not there.
    """
    path = Path(path)
    if path.exists():
        msg = f"{path} exists already: remove it, or name another"
        raise CaffeError(msg)
    if not path.absolute().parent.is_dir():
        msg = f"cannot write {path}: the folder {path.absolute().parent} is not there. Make it"
        raise CaffeError(msg)
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        count = (_write_lmdb if backend == "LMDB" else _write_level)(partial, records)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return count


def _write_lmdb(path: Path, records: Records) -> int:
    import lmdb

    count = 0
    environment = lmdb.open(str(path), map_size=_MOST_BYTES, sync=False)
    transaction = environment.begin(write=True)
    for key, datum in records:
        transaction.put(key.encode(), datum.SerializeToString())
        count += 1
        if count % _AT_ONCE == 0:
            transaction.commit()
            transaction = environment.begin(write=True)
    transaction.commit()
    environment.sync(True)
    environment.close()
    return count


def _write_level(path: Path, records: Records) -> int:
    import plyvel

    count = 0
    with plyvel.DB(str(path), create_if_missing=True, error_if_exists=True) as database:
        for key, datum in records:
            database.put(key.encode(), datum.SerializeToString())
            count += 1
    return count
