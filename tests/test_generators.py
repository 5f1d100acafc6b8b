"""Random generators: states taken, put back, compared, sent; and where datasets hide their own."""

# torch does not annotate all of its functions
# mypy: allow-untyped-calls

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

from pellucid.sync.shared import generators


@pytest.fixture(autouse=True)
def _leave_no_trace() -> Iterator[None]:
    before = generators.states()
    yield
    generators.restore(before)


def seed_all(number: int) -> None:
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number)


def draw_all() -> list[Any]:
    """Some of everything, normal numbers too: they come in pairs of which one is kept."""
    legacy: Any = np.random
    return [
        torch.rand(3).tolist(), torch.randn(3).tolist(), torch.randperm(9).tolist(),
        random.random(), random.gauss(0, 1), random.getrandbits(70),
        legacy.rand(), legacy.randn(), legacy.randint(99), legacy.permutation(5).tolist(),
    ]  # fmt: skip


DRAWS: dict[str, Callable[[], Any]] = {
    "torch": lambda: torch.rand(1),
    "torch one normal": lambda: torch.randn(1),
    "python": random.random,
    "python gauss": lambda: random.gauss(0, 1),
    "numpy": np.random.rand,
    "numpy normal": np.random.randn,
}


@pytest.mark.parametrize("warm", [0, 1, 2, 700])
def test_restored_generators_draw_the_same_again(warm: int) -> None:
    seed_all(1)
    for _ in range(warm):
        draw_all()
    taken = generators.states()
    first = draw_all()
    draw_all()
    generators.restore(taken)
    assert draw_all() == first
    generators.restore(taken)  # what was taken is not used up
    assert draw_all() == first


@pytest.mark.parametrize("name", DRAWS)
def test_every_draw_is_noticed(name: str) -> None:
    seed_all(2)
    before = generators.states()
    assert generators.same(before, generators.states())
    DRAWS[name]()
    assert not generators.same(before, generators.states())
    generators.restore(before)
    assert generators.same(before, generators.states())


def test_the_second_half_of_a_pair_of_normals_is_noticed() -> None:
    seed_all(3)
    for draw in (np.random.randn, lambda: random.gauss(0, 1)):
        draw()
        before = generators.states()
        draw()
        assert not generators.same(before, generators.states())


@pytest.mark.parametrize("warm", [0, 1, 700])
def test_states_travel_as_bytes(warm: int) -> None:
    seed_all(4)
    for _ in range(warm):
        draw_all()
    random.gauss(0, 1)
    np.random.randn()
    sent = generators.encode_states()
    assert sent.dtype == torch.uint8
    sent = sent.clone()
    expected = draw_all()
    seed_all(99)
    generators.decode_states(sent)
    assert draw_all() == expected


# what a dataset holds


def held(owner: Any) -> list[Any]:
    return [h for h in generators.held_by(owner) if not type(h).__name__.startswith("_")]


class Plain(Dataset[Any]):
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def __len__(self) -> int:
        return 3


class Transform:
    def __init__(self, generator: Any) -> None:
        self.generator = generator

    def __call__(self, x: Any) -> Any:
        return x


def draw_from(generator: Any, x: Any) -> Any:
    return x + generator.random()


class Compose:
    def __init__(self, *transforms: Any) -> None:
        self.transforms = list(transforms)


def noise(generator: Any) -> Callable[[Any], Any]:
    def add(x: Any) -> Any:
        return x + generator.random()

    return add


GENERATORS: dict[str, Callable[[], Any]] = {
    "torch": lambda: torch.Generator().manual_seed(1),
    "numpy": lambda: np.random.default_rng(1),
    "numpy legacy": lambda: np.random.RandomState(1),
    "numpy philox": lambda: np.random.Generator(np.random.Philox(1)),
    "python": lambda: random.Random(1),
}

DRAW: dict[str, Callable[[Any], Any]] = {
    "torch": lambda g: torch.rand(1, generator=g).item(),
    "numpy": lambda g: float(g.standard_normal()),
    "numpy legacy": lambda g: float(g.randn()),
    "numpy philox": lambda g: float(g.random()),
    "python": lambda g: g.gauss(0, 1),
}

PLACES: dict[str, Callable[[Any], Any]] = {
    "attribute": lambda g: Plain(rng=g),
    "list": lambda g: Plain(rngs=[g]),
    "dict": lambda g: Plain(rngs={"train": (g,)}),
    "transform": lambda g: Plain(transform=Transform(g)),
    "composed": lambda g: Plain(transform=Compose(len, Transform(g))),
    "closure": lambda g: Plain(transform=noise(g)),
    "closure in a list": lambda g: Plain(transforms=[str, noise(g)]),
    "subset": lambda g: Subset(Plain(rng=g), [0, 1]),
    "subset of a subset": lambda g: Subset(Subset(Plain(transform=Transform(g)), [0, 1]), [0]),
    "bound method": lambda g: Plain(transform=Transform(g).__call__),
    "partial": lambda g: Plain(transform=functools.partial(draw_from, g)),
    "default argument": lambda g: Plain(transform=lambda x, g=g: x + g.random()),
    "method of the generator": lambda g: Plain(draw=g.random if hasattr(g, "random") else g.seed),
    "beside data": lambda g: Plain(
        data=TensorDataset(torch.rand(5000, 3)), rows=list(range(5000)), rng=g
    ),
    "behind many": lambda g: Plain(paths=[f"{k}.png" for k in range(5000)], transform=Transform(g)),
    "slots": lambda g: Plain(transform=Slotted(g)),
    "module": lambda g: Plain(transform=Augment(g)),
    "global of a method": lambda g: in_a_script(g, METHODS)["Noisy"](),
    "global of a function": lambda g: in_a_script(g, METHODS)["make"](),
    "global of a function it calls": lambda g: in_a_script(g, METHODS)["Calling"](),
    "class attribute": lambda g: type("Shared", (Plain,), {"rng": g})(),
}  # fmt: skip


METHODS = """
class Noisy:
    def __getitem__(self, index):
        return rng.random()

class Calling:
    def __getitem__(self, index):
        return helper()

class With:
    pass

def helper():
    return rng.random()

def make():
    dataset = With()
    dataset.transform = lambda x: x + rng.random()
    return dataset
"""


def in_a_script(generator: Any, text: str) -> dict[str, Any]:
    """The names of a script in which this generator is a global."""
    names = {"rng": generator, "__name__": "__main__"}
    exec(text, names)
    return names


class Slotted:
    __slots__ = ("generator",)

    def __init__(self, generator: Any) -> None:
        self.generator = generator


class Augment(nn.Module):
    def __init__(self, generator: Any) -> None:
        super().__init__()
        self.generator = generator


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize("place", PLACES)
def test_a_datasets_own_generators_are_found(place: str, kind: str) -> None:
    """And their states are taken, compared and put back like the script's own."""
    generator = GENERATORS[kind]()
    owner = PLACES[place](generator)
    assert any(g is generator for g in held(owner))
    extra = generators.held_by(owner)
    DRAW[kind](generator)
    before = generators.states(extra)
    assert generators.same(before, generators.states(extra))
    first = DRAW[kind](generator)
    assert not generators.same(before, generators.states(extra))
    generators.restore(before, extra)
    assert generators.same(before, generators.states(extra))
    assert DRAW[kind](generator) == first


def test_all_generators_are_found_in_a_fixed_order() -> None:
    def make() -> Plain:
        a, b, c = (random.Random(k) for k in range(3))
        return Plain(rng=a, transform=Compose(Transform(b), noise(c)), again=a)

    one, two = held(make()), held(make())
    assert len(one) == 3
    assert [g.getstate() for g in one] == [g.getstate() for g in two]


def test_the_scripts_own_generators_are_not_taken_twice() -> None:
    assert held(Plain(generator=torch.default_generator)) == []


def test_what_refers_to_itself_ends_the_search() -> None:
    one, two = Plain(), Plain(rng=random.Random(1))
    vars(one)["other"], vars(two)["other"] = two, one
    assert len(held(one)) == 1


# counters: what makes samples depend on the order of the calls


class Counting(Plain):
    calls = 0

    def __init__(self) -> None:
        self.count = 0
        self.phase = "warm-up"
        self.transform = Transform(None)
        self.transform.strength = 0.5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "read"),
    [
        (lambda d: setattr(d, "count", d.count + 1), lambda d: d.count),
        (lambda d: setattr(d, "phase", "full"), lambda d: d.phase),
        (lambda d: setattr(d.transform, "strength", 0.7), lambda d: d.transform.strength),
        (lambda d: setattr(d, "calls", 1), lambda d: d.calls),
    ],
    ids=["count", "phase", "nested", "class"],
)
def test_counters_are_noticed_and_put_back(
    change: Callable[[Any], None], read: Callable[[Any], Any]
) -> None:
    dataset = Counting()
    extra = generators.held_by(dataset)
    was = read(dataset)
    before = generators.states(extra)
    change(dataset)
    assert not generators.same(before, generators.states(extra))
    generators.restore(before, extra)
    assert generators.same(before, generators.states(extra))
    assert read(dataset) == was


def test_a_counter_in_a_closure_is_noticed() -> None:
    def counter() -> Callable[[Any], Any]:
        count = 0

        def call(x: Any) -> Any:
            nonlocal count
            count += 1
            return x * count

        return call

    dataset = Plain(transform=counter())
    extra = generators.held_by(dataset)
    before = generators.states(extra)
    first = dataset.transform(1)  # type: ignore[attr-defined]
    assert not generators.same(before, generators.states(extra))
    generators.restore(before, extra)
    assert dataset.transform(1) == first  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "attributes",
    [
        {"data": torch.rand(10, 3)}, {"data": np.zeros((10, 3))}, {"text": "x" * 100_000},
        {"iterator": iter(range(3))}, {"cycle": itertools.cycle([1])}, {"kind": dict},
        {"function": len}, {"module": torch}, {"model": nn.Linear(3, 3)},
    ],
    ids=lambda a: next(iter(a)),
)  # fmt: skip
def test_data_is_not_looked_into(attributes: dict[str, Any]) -> None:
    dataset = Plain(**attributes)
    extra = generators.held_by(dataset)
    before = generators.states(extra)
    generators.restore(before, extra)
    assert generators.same(before, generators.states(extra))
    assert held(dataset) == []


def test_what_holds_no_writable_attributes_counts_nothing() -> None:
    """Classes that protobuf makes have no module; of a class, the attributes cannot be set so."""
    made = type("Made", (), {"number": 3})
    made.__module__ = None  # type: ignore[assignment]

    class Holding(Dataset[int]):
        def __init__(self) -> None:
            self.kind: Any = made
            self.one: Any = made()
            self.count = 1

    dataset = Holding()
    held = generators.held_by(dataset)
    before = generators.states(held)
    dataset.count = 2
    assert not generators.same(before, generators.states(held))
    generators.restore(before, held)
    assert dataset.count == 1
