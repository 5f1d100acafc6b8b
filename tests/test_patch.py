from __future__ import annotations

from types import SimpleNamespace

import pytest

from pellucid.intercept.patch import Patches


class Base:
    def greet(self) -> str:
        return "base"


class Child(Base):
    @staticmethod
    def shout() -> str:
        return "child"


def test_replaces_and_gives_back_what_stood_there() -> None:
    patches, owner = Patches(), SimpleNamespace(value=1)
    assert patches.replace(owner, "value", 2) == 1
    assert owner.value == 2
    patches.undo()
    assert owner.value == 1


def test_undoes_in_reverse_and_only_once() -> None:
    patches, one, two = Patches(), SimpleNamespace(a=1), SimpleNamespace(a=1)
    patches.replace(one, "a", 2)
    patches.replace(two, "a", 2)
    patches.undo()
    one.a = 5
    patches.undo()
    assert (one.a, two.a) == (5, 1)


def test_an_inherited_method_is_inherited_again() -> None:
    patches = Patches()
    patches.replace(Child, "greet", lambda _: "patched")
    assert Child().greet() == "patched"
    assert Base().greet() == "base"
    patches.undo()
    assert "greet" not in vars(Child)
    assert Child().greet() == "base"


def test_a_static_method_stays_one() -> None:
    patches = Patches()
    patches.replace(Child, "shout", staticmethod(lambda: "patched"))
    patches.undo()
    assert isinstance(vars(Child)["shout"], staticmethod)
    assert Child().shout() == "child"


def test_one_seam_has_one_owner() -> None:
    first, second, owner = Patches(), Patches(), SimpleNamespace(value=1)
    first.replace(owner, "value", 2)
    with pytest.raises(RuntimeError, match=r"value is already patched"):
        second.replace(owner, "value", 3)
    first.undo()
    second.replace(owner, "value", 3)
    second.undo()
    assert owner.value == 1


def test_what_is_not_there_cannot_be_replaced() -> None:
    patches, owner = Patches(), SimpleNamespace()
    with pytest.raises(AttributeError):
        patches.replace(owner, "missing", 1)
    patches.undo()
    assert not hasattr(owner, "missing")
