"""How a script's loops are answered in the asynchronous modes: one worker, or several by turns."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Sampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import pellucid
from pellucid.sync.hogwild.dealer import BoxDealer
from pellucid.sync.shared.dealer import Lease, PassKey, Role
from pellucid.sync.shared.order import (
    Order,
    deposit,
    goes_beyond,
    held_by_loader,
    held_by_sampler,
    restore_deposit,
)
from pellucid.sync.shared.single import SingleDealer
from tests.asynchronous import side
from tests.test_hogwild import Box

DATA = TensorDataset(torch.arange(24.0).view(12, 2), torch.arange(12))


def model() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    return net, torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)


def step(net: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> None:
    optimizer.zero_grad()
    net(x).sum().backward()
    optimizer.step()


def roles(dealer: SingleDealer) -> list[Role]:
    return [entry[2] for entry in dealer.log if entry[0] == "open"]  # type: ignore[misc]


def test_the_first_step_makes_it_a_training_pass() -> None:
    dealer = SingleDealer()
    with side(dealer) as s:
        net, optimizer = model()
        loader = DataLoader(DATA, 4)
        for epoch in range(2):
            for x, _ in loader:
                step(net, optimizer, x)
                if epoch == 0 and s.begun == 0:
                    assert s.weights.log == []  # on trial, the weights are its own
        (name,) = {block.name for block in s.weights.blocks}
        assert name == "0.0"
        assert (s.mode.steps, s.mode.samples) == (6, 24 - 4 + 4)
    assert roles(dealer) == [Role.TRY, Role.TRAIN]
    assert s.weights.log.count("before step") == 5


@pytest.mark.parametrize("by_data", [False, True])
def test_updates_by_hand_prove_it_too(by_data: bool) -> None:
    dealer = SingleDealer()
    with side(dealer) as s:
        net, _ = model()
        for x, _ in DataLoader(DATA, 4):
            net.zero_grad()
            net(x).sum().backward()
            with torch.no_grad():
                for p in net.parameters():
                    assert p.grad is not None
                    (p.data if by_data else p).sub_(0.1 * p.grad)
        assert s.mode.steps == 3
    assert ("decide", PassKey(0, 0), Role.TRAIN) in dealer.log


def test_a_loop_that_changes_nothing_is_everybodys_own() -> None:
    dealer = SingleDealer()
    with side(dealer) as s:
        net, _ = model()
        loader = DataLoader(DATA, 4)
        for _ in range(2):
            assert sum(len(net(x)) for x, _ in loader) == 12
        assert (s.begun, s.weights.log) == (0, [])
    assert roles(dealer) == [Role.TRY, Role.WHOLE]


def test_evaluation_without_gradients_is_not_dealt() -> None:
    dealer = SingleDealer()
    with side(dealer):
        with torch.no_grad():
            assert len(list(DataLoader(DATA, 4))) == 3
        with torch.inference_mode():
            assert len(list(DataLoader(DATA, 4))) == 3
    assert dealer.log == []


def test_a_peek_is_no_pass() -> None:
    dealer = SingleDealer()
    with side(dealer):
        net, optimizer = model()
        loader = DataLoader(DATA, 4)
        next(iter(loader))
        for x, _ in loader:
            step(net, optimizer, x)
    assert ("undecided", PassKey(0, 0)) in dealer.log
    assert roles(dealer) == [Role.TRY, Role.TRY]


def test_loops_within_a_training_pass_are_everybodys_own() -> None:
    dealer = SingleDealer()
    with side(dealer):
        net, optimizer = model()
        inner = DataLoader(DATA, 6)
        for x, _ in DataLoader(DATA, 4):
            step(net, optimizer, x)
            assert len([net(y) for y, _ in inner]) == 2
    assert len(roles(dealer)) == 1


def test_a_loader_made_anew_at_the_same_line_needs_no_second_trial() -> None:
    dealer = SingleDealer()
    with side(dealer):
        net, optimizer = model()
        for _ in range(3):
            for x, _ in DataLoader(DATA, 4, shuffle=True):
                step(net, optimizer, x)
        for x, _ in DataLoader(DATA, 4):
            net(x)
    assert roles(dealer) == [Role.TRY, Role.TRAIN, Role.TRAIN, Role.TRY]


class Alike(Dataset[torch.Tensor]):
    """Equal to all others of its kind."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alike)

    def __hash__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.ones(2) * index

    def __len__(self) -> int:
        return 12


@pytest.mark.parametrize("dataset", [DATA.tensors[0], Alike(), list(DATA.tensors[0])])
def test_any_dataset_is_told_from_others_by_what_it_is_not_by_what_it_equals(dataset: Any) -> None:
    dealer = SingleDealer()
    with side(dealer):
        net, optimizer = model()
        for _ in range(2):
            for x in DataLoader(dataset, 4):
                step(net, optimizer, x)
    first, second = roles(dealer)
    assert (first, second) == (Role.TRY, Role.TRY if isinstance(dataset, list) else Role.TRAIN)


def test_equal_datasets_are_not_taken_for_one_another() -> None:
    dealer = SingleDealer()
    with side(dealer):
        net, optimizer = model()
        for dataset in (Alike(), Alike()):
            for x in DataLoader(dataset, 4):
                step(net, optimizer, x)
    assert roles(dealer) == [Role.TRY, Role.TRY]


def test_after_a_break_the_rest_is_given_back() -> None:
    dealer = SingleDealer()
    with side(dealer) as s:
        net, optimizer = model()
        for x, _ in DataLoader(DATA, 2):
            step(net, optimizer, x)
            if s.mode.steps == 3:
                break
        assert s.mode.passes.training is None
        assert s.weights.log[-1] == "leave"
    assert ("close", PassKey(0, 0)) in dealer.log


def test_the_batch_of_a_script_that_ends_in_the_middle_of_a_pass_is_given_back() -> None:
    dealer = SingleDealer()
    with side(dealer) as s:
        net, optimizer = model()
        loader = DataLoader(DATA, 2)
        for x, _ in loader:
            step(net, optimizer, x)

        def train() -> None:
            for x, _ in loader:
                step(net, optimizer, x)
                if s.mode.steps == 9:
                    sys.exit(3)

        with pytest.raises(SystemExit):
            train()
        assert s.mode.break_off()
        s.mode.close()
    key = PassKey(0, 1)
    done = [entry[1] for entry in dealer.log if entry[0] == "done"]
    assert [lease.index for lease in done if lease.key == key] == [0, 1]  # type: ignore[attr-defined]
    assert dealer.take(key) == Lease(key, 2)


def test_an_iterator_that_is_kept_holds_its_batch_until_the_end() -> None:
    dealer = SingleDealer()
    with side(dealer) as s:
        net, optimizer = model()
        batches = iter(DataLoader(DATA, 2))
        for _ in range(3):
            step(net, optimizer, next(batches)[0])
        assert s.mode.break_off()
    assert dealer.take(PassKey(0, 0)) == Lease(PassKey(0, 0), 2)


def test_what_the_script_had_when_it_broke_off_a_pass_is_done_when_it_goes_on() -> None:
    dealer = SingleDealer()
    with side(dealer) as s:
        net, optimizer = model()
        for _ in range(2):
            for x, _ in DataLoader(DATA, 2):
                step(net, optimizer, x)
                if s.mode.steps % 3 == 0:
                    break
            with torch.no_grad():
                net(DATA.tensors[0])
            assert dealer.log[-1][0] == "done"
        assert not s.mode.break_off()
    assert len([entry for entry in dealer.log if entry[0] == "done"]) == 6


def test_steps_outside_of_loops_are_told_with_the_line() -> None:
    with side(SingleDealer()) as s:
        net, optimizer = model()
        for start in range(0, 8, 4):
            step(net, optimizer, DATA.tensors[0][start : start + 4])
        (said,) = s.said
        assert "write: for start in pellucid.share(range(0, 8, 4)):" in said
        assert f"{__file__}:" in said


def test_shared_items_are_dealt_without_a_trial() -> None:
    dealer = SingleDealer()
    with side(dealer) as s:
        net, optimizer = model()
        shared = pellucid.share(range(0, 12, 4))
        assert len(shared) == 3
        for start in shared:
            step(net, optimizer, DATA.tensors[0][start : start + 4])
        assert list(pellucid.share(iter("abc"))) == ["a", "b", "c"]
        assert list(pellucid.share({"a": 1, "b": 2})) == ["a", "b"]
        assert s.begun
        assert s.said == []
    assert roles(dealer) == [Role.TRAIN] * 3


def test_under_plain_python_sharing_gives_back_what_it_gets() -> None:
    items = range(3)
    assert pellucid.share(items) is items


def test_schedulers_follow_all_workers() -> None:
    class Half(SingleDealer):
        """Every other batch goes to somebody else."""

        def take(self, key: PassKey) -> Lease | None:
            super().take(key)
            return super().take(key)

    with side(Half()):
        net, optimizer = model()
        rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=24)
        epochs = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        for _ in range(2):
            for x, _ in DataLoader(DATA, 1):
                step(net, optimizer, x)
                rates.step()
            epochs.step()
        assert (rates.last_epoch, epochs.last_epoch) == (24, 2)


def test_a_worker_that_got_nothing_rehearses_and_drops_it() -> None:
    class Spent(SingleDealer):
        def take(self, key: PassKey) -> Lease | None:  # noqa: ARG002
            return None

    with side(Spent(), number=1) as s:
        net, optimizer = model()
        count = 0
        for start in pellucid.share(range(0, 12, 4)):
            step(net, optimizer, DATA.tensors[0][start : start + 4])
            count += 1
        assert count == 1
        assert s.mode.steps == 0
    assert s.weights.log == ["enter", "leave", "enter", "leave"]


def test_lazy_modules_and_loose_parameters_are_registered_when_they_are_stepped() -> None:
    with side(SingleDealer()) as s:
        lazy, scale = nn.LazyLinear(1), torch.ones(1, requires_grad=True)
        lazy(torch.ones(1, 2))
        optimizer = torch.optim.Adam([*lazy.parameters(), scale])
        for x, _ in DataLoader(DATA, 4):
            optimizer.zero_grad()
            (lazy(x) * scale).sum().backward()
            optimizer.step()
        shapes = [[p.spec.shape for p in b.flat.layout.pieces] for b in s.weights.blocks]
        assert sorted(shapes) == [[(1,)], [(1, 2), (1,)]]


# orders


class Drawing(WeightedRandomSampler):
    """Draws from every generator that a script has."""

    def __iter__(self) -> Iterator[int]:
        for index in super().__iter__():
            yield (index + random.randrange(12) + int(np.random.randint(12))) % 12


def loaders() -> list[Callable[[], Any]]:
    weights = [1.0] * 12
    generator = torch.Generator().manual_seed(5)
    return [
        lambda: DataLoader(DATA, 4, shuffle=True),
        lambda: DataLoader(DATA, 5, shuffle=True, drop_last=True, generator=generator),
        lambda: DataLoader(DATA, 2, sampler=Drawing(weights, 12)),
    ]


@pytest.mark.parametrize("kind", range(3))
def test_an_order_is_the_scripts_own_and_the_same_elsewhere(kind: int) -> None:
    loader = loaders()[kind]()
    held = held_by_sampler(loader.batch_sampler)
    torch.manual_seed(1)
    random.seed(2)
    np.random.seed(3)
    deposited = deposit(held)
    plain = [labels.tolist() for _, labels in loader]
    torch.manual_seed(99)
    random.seed(99)
    before = torch.get_rng_state(), random.getstate()
    for _ in range(2):  # two other workers, in other states
        order = Order(loader, deposited, held)
        assert [order.batch(k) for k in range(len(plain))] == plain
        assert order.batch(len(plain)) is None
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


def test_a_deposit_survives_the_wire_for_all_kinds_of_generators() -> None:
    held = (np.random.default_rng(1), np.random.RandomState(2), random.Random(3), torch.Generator())
    random.gauss(0, 1)
    data = deposit(held)
    drawn = [held[0].random(), held[1].rand(), held[2].random(), random.gauss(0, 1)]
    restore_deposit(data, held)
    assert drawn == [held[0].random(), held[1].rand(), held[2].random(), random.gauss(0, 1)]


# several workers by turns


class Endless(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(10).tolist())


class Indexed(Dataset[int]):
    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return 10


@pytest.mark.parametrize("dataset", [Indexed(), Endless()])
@pytest.mark.parametrize("processes", [0, 2])
def test_two_workers_share_a_pass_between_them(dataset: Any, processes: int) -> None:
    """The second comes in when the first has had three batches, in another random state."""
    box = Box(2)
    shuffle: dict[str, Any] = {"shuffle": True} if isinstance(dataset, Indexed) else {}

    def begin(dealer: BoxDealer, number: int) -> tuple[Any, Any]:
        context = side(dealer, number)
        s = context.__enter__()
        weight = torch.ones(1, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=0.1)
        torch.manual_seed(number)
        return context, (s, weight, optimizer)

    first, (_, weight, optimizer) = begin(box.dealers[0], 0)
    loader = DataLoader(dataset, 1, num_workers=processes, **shuffle)
    batches = iter(loader)
    got = []
    for _ in range(3):
        got += next(batches).tolist()
        weight.grad = torch.ones(1)
        optimizer.step()
    first.__exit__(None, None, None)  # it is broken off here: what it had prefetched is given back
    second, _ = begin(box.dealers[1], 1)
    got += [int(x) for x in DataLoader(dataset, 1, num_workers=processes, **shuffle)]
    second.__exit__(None, None, None)
    box.close()
    # each process of a loader goes through all of an IterableDataset, as under plain python
    copies = processes if processes and isinstance(dataset, Endless) else 1
    assert sorted(got) == sorted([*range(10)] * copies)


class Sampling(Sampler[int]):
    """Of its own, with a generator; `ends`: or says that it does, as samplers for counted steps."""

    def __init__(self, *, ends: bool) -> None:
        self.ends = ends
        self.generator = torch.Generator().manual_seed(3)

    def __iter__(self) -> Iterator[int]:
        yield from torch.randperm(4, generator=self.generator).tolist()
        while not self.ends:
            yield from torch.randperm(4, generator=self.generator).tolist()

    def __len__(self) -> int:
        return 4


def sampled(sampler: Sampler[int]) -> DataLoader[Any]:
    numbers: Any = torch.arange(4.0)
    return DataLoader(numbers, 1, sampler=sampler)


@pytest.mark.parametrize("ends", [True, False])
def test_a_sampler_may_give_more_than_it_says(ends: bool) -> None:
    plain = [float(x) for x in itertools.islice(sampled(Sampling(ends=ends)), 9)]
    with side(SingleDealer()):
        weight = torch.ones(1, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=0.1)
        got = []
        for x in itertools.islice(sampled(Sampling(ends=ends)), 9):
            got.append(float(x))
            weight.grad = torch.ones(1)
            optimizer.step()
    assert len(got) == (4 if ends else 9)
    assert got == plain


def test_to_see_how_long_a_sampler_is_leaves_its_generators_alone() -> None:
    sampler = Sampling(ends=False)
    loader = sampled(sampler)
    before = torch.get_rng_state(), sampler.generator.get_state()
    assert goes_beyond(loader, held_by_loader(loader), 4)
    assert not goes_beyond(sampled(SequentialSampler(range(4))), (), 4)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(sampler.generator.get_state(), before[1])


def test_rows_are_counted_also_within_dicts_and_lists() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 1)

        def forward(self, inputs: dict[str, Any]) -> torch.Tensor:
            out: torch.Tensor = self.inner(inputs["rows"][0])
            return out

    with side(SingleDealer()) as s:
        net = Named()
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)
        for x, _ in DataLoader(DATA, 4):
            optimizer.zero_grad()
            net({"name": "a batch", "rows": [x]}).sum().backward()
            optimizer.step()
        assert s.mode.samples == 12
