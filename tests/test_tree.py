"""Trees: what is opened, what is rebuilt as what, and what is left alone."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict, namedtuple
from typing import Any, NamedTuple

import pytest
import torch

from pellucid.sync.exact.tree import leaves_of, map_leaves


class Pair(NamedTuple):
    first: Any
    second: Any


Old = namedtuple("Old", "x y")


class Ragged(namedtuple("Ragged", "flat offsets")):
    """As long as it has rows; made of what it likes."""

    def __new__(cls, flat: Any, offsets: Any = 0) -> Ragged:
        return super().__new__(cls, flat, offsets)

    def __len__(self) -> int:
        return 77


class Named(list[Any]):
    """A list with more to it."""

    def __init__(self, name: str, *items: Any) -> None:
        super().__init__(items)
        self.name = name


@dataclasses.dataclass
class Batch:
    x: Any
    y: Any = None
    z: Any = dataclasses.field(init=False, default=3)


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: Any


@dataclasses.dataclass
class Checked:
    """Its constructor refuses what it was not made for."""

    x: Any

    def __post_init__(self) -> None:
        if not isinstance(self.x, int):
            raise TypeError


class Output(OrderedDict[str, Any]):
    """An output in the style of transformers: each value is an item and an attribute."""

    def __init__(self, **values: Any) -> None:
        super().__init__(values)
        self.__dict__.update(values)


class Opaque:
    """Something that we cannot rebuild."""

    def __init__(self, x: Any) -> None:
        self.x = x


TREES = [
    1,
    [1, 2],
    (1, (2, [3])),
    {"a": 1, "b": {"c": 2}},
    OrderedDict(b=1, a=2),
    defaultdict(int, {"k": 1}),
    Pair(1, [2]),
    Old(1, 2),
    Ragged([1, 2], 3),
    Named("pair", 1, [2]),
    Batch(1, (2,)),
    Frozen([1]),
    Checked(1),
    Output(loss=1, logits=2),
    torch.Size([2, 3]),
    [],
    (),
    {},
]


@pytest.mark.parametrize("tree", TREES, ids=lambda t: type(t).__name__)
def test_nothing_changed_gives_the_same_object(tree: Any) -> None:
    assert map_leaves(lambda leaf: leaf, tree) is tree


@pytest.mark.parametrize("tree", TREES, ids=lambda t: type(t).__name__)
def test_there_and_back_gives_an_equal_object(tree: Any) -> None:
    there = map_leaves(lambda leaf: leaf + 1, tree)
    assert type(there) is type(tree)
    assert leaves_of(there) == [leaf + 1 for leaf in leaves_of(tree)]
    assert map_leaves(lambda leaf: leaf - 1, there) == tree


def test_leaves_come_in_one_order() -> None:
    tree = {"b": [1, (2, Pair(3, 4))], "a": Batch(5, Frozen(6)), "o": Output(loss=8, logits=9)}
    assert leaves_of(tree) == [1, 2, 3, 4, 5, 6, 3, 8, 9]


def test_the_original_stays_as_it_was() -> None:
    batch = Batch([1], {"k": 2})
    frozen, output = Frozen(1), Output(loss=1)
    doubled = map_leaves(lambda leaf: leaf * 2, [batch, frozen, output])
    assert (batch, frozen.x, output["loss"], output.__dict__["loss"]) == (
        Batch([1], {"k": 2}), 1, 1, 1,
    )  # fmt: skip
    assert (doubled[0].x, doubled[0].y, doubled[0].z) == ([2], {"k": 4}, 6)
    assert doubled[1].x == 2
    assert (doubled[2]["loss"], doubled[2].__dict__["loss"]) == (2, 2)


def test_defaults_survive() -> None:
    mapped = map_leaves(lambda leaf: leaf + 1, defaultdict(list, {"k": 1}))
    assert mapped["missing"] == []
    assert mapped["k"] == 2


def test_what_a_list_has_beside_its_items_stays() -> None:
    mapped = map_leaves(lambda leaf: leaf + 1, Named("pair", 1, 2))
    assert (mapped.name, list(mapped)) == ("pair", [2, 3])


def test_what_cannot_be_rebuilt_is_a_leaf() -> None:
    thing, tensor = Opaque(1), torch.ones(2)
    leaves = leaves_of([thing, tensor, {3}, Batch, "text", None, slice(1)])
    assert leaves[0] is thing
    assert leaves[1] is tensor
    assert leaves[2:] == [{3}, Batch, "text", None, slice(1)]
