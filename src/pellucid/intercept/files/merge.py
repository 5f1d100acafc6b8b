"""Make a follower's view real: it is the leader now, at the same point of the same program.

To be called when nothing is patched any more. Forked children of this worker that still write
to its upper directory are sent to the disk from now on; what they have open stays where it is.
"""

# `Path` would come back to the very functions that are patched here
# ruff: noqa: PTH102, PTH103, PTH106, PTH108, PTH110, PTH114, PTH115, PTH116, PTH208

from __future__ import annotations

import fcntl
import os
import posixpath
import shutil
import stat

from pellucid.intercept.files import disk
from pellucid.intercept.files.view import View

__all__ = ["merge"]


def merge(view: View) -> None:
    """Let the disk be what this view shows, as far as the two ever differed."""
    view.refresh()
    held = _open_files(view)
    _remove_unseen(view)
    _restore_kept(view)
    _move_upper(view)
    view.end()
    if view.cwd is not None:
        os.chdir(view.cwd)
    for fd, path in held:
        _point(fd, path)


def _open_files(view: View) -> list[tuple[int, str]]:
    """Open files that lie in the upper directory, and what they shall be called."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the one that listed them
            continue
        if target.startswith(view.root + "/") and os.path.exists(target):
            found.append((int(name), target[len(view.root) :]))
    return found


def _remove_unseen(view: View) -> None:
    """Remove what the script removed, and what the dead leader alone had come to make."""
    for path in sorted(view.gone | view.changes.late, key=len, reverse=True):
        if view.at(path) is not None or not os.path.lexists(path):
            continue
        if not disk.is_directory(path):
            os.unlink(path)
        elif not os.listdir(path):
            os.rmdir(path)


def _restore_kept(view: View) -> None:
    """Put back what the dead leader had changed and the script did not yet."""
    for path, copy in sorted(view.changes.kept.items()):
        if copy is None or view.at(path) != copy:
            continue
        if disk.is_directory(copy) and disk.is_directory(path):
            continue
        _clear(path)
        if disk.is_directory(copy):
            os.makedirs(path)
            continue
        os.makedirs(posixpath.dirname(path), exist_ok=True)
        disk.copy(copy, path)  # a copy: other followers may still look at the kept one


def _move_upper(view: View) -> None:
    for upper, directories, files in os.walk(view.root):
        real = upper[len(view.root) :] or "/"
        for name in directories:
            inner = posixpath.join(upper, name)
            if os.path.islink(inner):
                files.append(name)
            elif not disk.is_directory(posixpath.join(real, name)):
                _clear(posixpath.join(real, name))
                os.mkdir(posixpath.join(real, name))
                shutil.copymode(inner, posixpath.join(real, name))
        for name in files:
            _clear(posixpath.join(real, name))
            # a mere change of name where that can be: what is mapped into memory stays right then
            shutil.move(posixpath.join(upper, name), posixpath.join(real, name))


def _clear(path: str) -> None:
    """Remove whatever is in the way."""
    if disk.is_directory(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _point(fd: int, path: str) -> None:
    """Let an open file be the one at that path, unless it is already: same flags and offset."""
    there = os.stat(path)
    if os.path.samestat(os.fstat(fd), there):
        return
    flags = fcntl.fcntl(fd, fcntl.F_GETFL) & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC)
    new = os.open(path, flags)
    if stat.S_ISREG(there.st_mode):
        os.lseek(new, os.lseek(fd, 0, os.SEEK_CUR), os.SEEK_SET)
    os.dup2(new, fd, inheritable=os.get_inheritable(fd))
    os.close(new)
