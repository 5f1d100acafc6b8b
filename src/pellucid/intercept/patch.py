"""Named, reversible patches: the only way pellucid changes anything that is not its own.

Every seam of the script's world that we take hold of is an attribute of some module or class. A
`Patches` object replaces such attributes, remembers what stood there, and puts everything back in
reverse order. Patching the same attribute twice is refused: two owners of one seam would depend
on the order of their coming.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Patches"]

_MISSING = object()


class Patches:
    """A set of replaced attributes that can be put back.

    Example:
        patches = Patches()
        original = patches.replace(os, "mkdir", my_mkdir)
        ...
        patches.undo()
    """

    _owned: set[tuple[int, str]] = set()  # noqa: RUF012 - one table for the process, by design

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, name: str, value: Any) -> Any:
        """Replace ``owner.name`` by ``value`` and return what stood there.

        Raises:
            RuntimeError: the attribute is already patched.
            AttributeError: there is no such attribute.
        """
        key = (id(owner), name)
        if key in self._owned:
            msg = f"{owner!r}.{name} is already patched; undo the first patch before the second"
            raise RuntimeError(msg)
        original = getattr(owner, name)
        # a class may inherit the attribute: undoing then means deleting ours, not copying theirs
        in_place = vars(owner).get(name, _MISSING) if isinstance(owner, type) else original
        setattr(owner, name, value)
        self._owned.add(key)
        self._undo.append((owner, name, in_place))
        return original

    def undo(self) -> None:
        """Put everything back, last patch first. Calling it again does nothing."""
        while self._undo:
            owner, name, original = self._undo.pop()
            self._owned.discard((id(owner), name))
            if original is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
