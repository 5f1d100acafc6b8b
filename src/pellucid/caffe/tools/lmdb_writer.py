"""Write an LMDB database of Datums."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pellucid.caffe.errors import CaffeError

__all__ = ["write_lmdb"]

_AT_ONCE = 1000
_MOST_BYTES = 1 << 40  # of address space, not of the disk


def write_lmdb(path: str | Path, records: Iterable[tuple[str, Any]]) -> int:
    """Write records, keys and Datums, to a new database, whole or not at all.

    Returns:
        How many were written.

    Raises:
        CaffeError: there is something at the path already.
    """
    import lmdb

    path = Path(path)
    if path.exists():
        msg = f"{path} exists already: remove it, or name another"
        raise CaffeError(msg)
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    count = 0
    try:
        environment = lmdb.open(str(partial), map_size=_MOST_BYTES, sync=False)
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
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return count
