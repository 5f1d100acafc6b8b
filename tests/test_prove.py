"""Proofs: which modules are split, along which dimensions, and why others are run whole.

Each case is a module and inputs for some calls. They are made once in the test's own process, for
what is right, and then on every worker of a group, for what exact mode makes of them.
"""

# torch does not annotate all of its functions
# mypy: allow-untyped-calls

from __future__ import annotations

import contextlib
import io
import random
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.sync.exact.kept import has_tensors
from pellucid.sync.exact.tree import leaves_of
from pellucid.sync.exact.trial import refuse_step
from tests.group_of_processes import run_in_processes

ROWS = 7  # no multiple of any number of workers
# features: prime, so that no number of rows divides them, see the coincidences at the end
IN, MID, OUT = 11, 13, 17


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64) - 0.4


@dataclass
class Found:
    """What came of some calls of a module.

    Attributes:
        outputs: leaves of what each call returned, and left in attributes.
        grads: of the parameters, after backward through all float outputs of all calls.
        state: the module's state_dict and plain attributes at the end.
        printed: on stdout.
        drawn: numbers from all three generators, at the end.
        way: dims and reduces of the latest proof; None where it runs whole.
        why: the reason for that.
        told: what the user was told.
    """

    outputs: list[Any] = field(default_factory=list)
    grads: list[Any] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    printed: str = ""
    drawn: list[float] = field(default_factory=list)
    way: tuple[tuple[int | None, ...], bool] | None = None
    why: str = ""
    told: list[str] = field(default_factory=list)


Calls = list[tuple[tuple[Any, ...], dict[str, Any]]]
Make = Callable[[], tuple[nn.Module, Calls]]


def play(make: Make) -> tuple[Found, nn.Module]:
    """Call the module as a script would; return it too, so that its proofs stay."""
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    module, calls = make()
    module.double()
    found, out = Found(), io.StringIO()
    with contextlib.redirect_stdout(out):
        for args, kwargs in calls:
            output = module(*args, **kwargs)
            seen = [output, *kept_by(module)]
            leaves = [leaf for leaf in leaves_of(seen) if isinstance(leaf, torch.Tensor)]
            losses = [
                (leaf * (k + 1)).sin().sum() for k, leaf in enumerate(leaves) if leaf.requires_grad
            ]
            if losses:
                torch.stack(losses).sum().backward()
            found.outputs.append([as_plain(leaf) for leaf in leaves_of(seen)])
            # inputs too: a module may change them
            found.outputs.append([as_plain(leaf) for leaf in leaves_of((args, kwargs))])
    found.grads = [None if p.grad is None else p.grad.tolist() for p in module.parameters()]
    found.state = {name: value.tolist() for name, value in module.state_dict().items()}
    plain = (bool, int, float, str, list, dict)
    found.state |= {
        f"{name}.{key}": value
        for name, inner in module.named_modules()
        for key, value in vars(inner).items()
        if isinstance(value, plain) and not key.startswith("_") and not has_tensors(value)
    }
    found.printed = out.getvalue()
    found.drawn = [torch.rand(1).item(), random.random(), float(np.random.rand())]
    return found, module


def kept_by(module: nn.Module) -> list[Any]:
    """What modules have left in attributes."""
    return [
        value
        for inner in module.modules()
        for name, value in vars(inner).items()
        if not name.startswith("_") and has_tensors(value)
    ]


def as_plain(leaf: Any) -> Any:
    return leaf.detach().tolist() if isinstance(leaf, torch.Tensor) else leaf


def play_all(mode: Any, told: list[Any], makes: list[Make]) -> list[Found | str]:
    """What a worker finds for each case, or the traceback."""
    founds: list[Found | str] = []
    for make in makes:
        told.clear()
        try:
            found, module = play(make)
        except Exception:
            founds.append(traceback.format_exc())
            continue
        found.told = [text for event, text in told if event == "notice"]
        for proof in mode.calls._proofs[module].values():
            found.way = None if proof.way is None else (proof.way.dims, proof.way.reduces)
            found.why = proof.why
        founds.append(found)
    return founds


@cache
def all_founds(makes: tuple[Make, ...], workers: int) -> list[tuple[Found | str, ...]]:
    """What each worker finds for each case; one group of processes plays them all."""
    return list(zip(*run_in_processes(workers, play_all, list(makes)), strict=True))


def check(workers: int, make: Make, makes: Iterable[Make] = ()) -> Found:
    """Compare all that can be seen of the calls; return what the first worker found.

    Args:
        workers: how many.
        make: the case.
        makes: cases to play in one go with it.
    """
    expected, _ = play(make)
    cases = tuple(makes) or (make,)
    results = all_founds(cases, workers)[cases.index(make)]
    for found in results:
        assert isinstance(found, Found), found
        for name in ("outputs", "grads", "state", "drawn"):
            assert close(getattr(found, name), getattr(expected, name)), name
        assert found.printed == expected.printed
    first, *others = results
    assert isinstance(first, Found)
    assert all(isinstance(found, Found) and found.way == first.way for found in others)
    return first


def close(a: Any, b: Any) -> bool:
    """Equal, numbers to 1e-9."""
    if isinstance(a, float) and isinstance(b, float):
        return a == b or abs(a - b) <= 1e-9 * max(1.0, abs(a), abs(b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(close(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and bool(a == b)


def plainly(*inputs: Any, calls: int = 3, **keywords: Any) -> Calls:
    """The same kind of call several times, with other values each time."""
    return [
        (tuple(other(x, k) for x in inputs), {n: other(x, k) for n, x in keywords.items()})
        for k in range(calls)
    ]


def other(x: Any, k: int) -> Any:
    return x * (1 + k / 4) if isinstance(x, torch.Tensor) and x.is_floating_point() else x


# what is split, and along which dims


class Net(nn.Module):
    """The usual; subclasses say what they do between its two layers, and after."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(IN, MID), nn.Linear(MID, OUT)

    def forward(self, x: Any, *_: Any, **__: Any) -> Any:
        return self.last(self.middle(self.first(x)))

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x.tanh()


def batch_first() -> tuple[nn.Module, Calls]:
    return Net(), plainly(values(ROWS, IN))


def sequences() -> tuple[nn.Module, Calls]:
    return Net(), plainly(values(ROWS, 5, IN))


def time_first() -> tuple[nn.Module, Calls]:
    return nn.LSTM(IN, MID), plainly(values(19, ROWS, IN))


def time_first_with_state() -> tuple[nn.Module, Calls]:
    return nn.GRU(IN, MID, 2), plainly(values(19, ROWS, IN), values(2, ROWS, MID, seed=1))


def as_long_as_many() -> tuple[nn.Module, Calls]:
    """Time first, and as many steps as rows: only trying can tell the two apart."""
    return nn.RNN(IN, MID), plainly(values(ROWS, ROWS, IN))


def batch_first_recurrent() -> tuple[nn.Module, Calls]:
    return nn.LSTM(IN, MID, batch_first=True), plainly(values(ROWS, 19, IN))


class Masked(Net):
    """Attention over a sequence, with a square mask for all rows alike."""

    def forward(self, x: Any, mask: Any = None, **_: Any) -> Any:
        scores = x @ x.transpose(1, 2) / 2
        if mask is not None:
            scores = scores.masked_fill(~mask, -1e9)
        return self.last(self.first(scores.softmax(-1) @ x).tanh())


def square_mask() -> tuple[nn.Module, Calls]:
    """The mask is as square as the batch is long: it looks like rows of the batch."""
    return Masked(), plainly(values(ROWS, ROWS, IN), torch.ones(ROWS, ROWS).tril().bool())


def keyword_mask() -> tuple[nn.Module, Calls]:
    return Masked(), plainly(x=values(ROWS, 5, IN), mask=torch.ones(5, 5).tril().bool())


class Pairs(Net):
    """Several batched inputs, of which some come by keyword."""

    def forward(self, x: Any, other: Any = None, scale: Any = None, **_: Any) -> Any:
        return {"sum": self.last(self.first(x) + self.first(other)) * scale, "first": self.first(x)}


def keywords() -> tuple[nn.Module, Calls]:
    return Pairs(), plainly(
        values(ROWS, IN), other=values(ROWS, IN, seed=1), scale=values(OUT, seed=2)
    )


class Counts(Net):
    def forward(self, x: Any, *_: Any) -> Any:
        return super().forward(x), x.shape[0], x.size(1), x.numel() // IN


def counts() -> tuple[nn.Module, Calls]:
    return Counts(), plainly(values(ROWS, IN))


class OwnLoss(Net):
    def forward(self, x: Any, target: Any = None) -> Any:
        logits = super().forward(x)
        return nn.functional.cross_entropy(logits, target), logits


def own_loss() -> tuple[nn.Module, Calls]:
    return OwnLoss(), plainly(values(ROWS, IN), torch.arange(ROWS) % OUT)


class OwnPenalty(Net):
    def forward(self, x: Any, *_: Any) -> Any:
        y = super().forward(x)
        return y, y.pow(2).mean() + y.abs().sum() + self.last.weight.pow(2).sum()


def own_penalty() -> tuple[nn.Module, Calls]:
    return OwnPenalty(), plainly(values(ROWS, IN))


def folded_heads() -> tuple[nn.Module, Calls]:
    return nn.MultiheadAttention(4, 2, batch_first=True), plainly(
        *(values(ROWS, 5, 4) for _ in "qkv")
    )


class DropsOut(Net):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(x, 0.4, self.training) + 0.1 * torch.randn_like(x)


def drops_out() -> tuple[nn.Module, Calls]:
    return DropsOut(), plainly(values(ROWS, IN))


class Normalises(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(MID)

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(x).relu()
        return y


def normalises() -> tuple[nn.Module, Calls]:
    return Normalises(), plainly(values(ROWS, IN))


class Prints(Net):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        print("forward", self.training)  # noqa: T201 - it is what is tried
        return x


def prints() -> tuple[nn.Module, Calls]:
    return Prints(), plainly(values(ROWS, IN))


class CountsCalls(Net):
    def __init__(self) -> None:
        super().__init__()
        self.calls, self.seen = 0, [0]

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen.append(self.calls)
        return x


def counts_calls() -> tuple[nn.Module, Calls]:
    return CountsCalls(), plainly(values(ROWS, IN), calls=12)


class UsesInputTwice(Net):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x + x.detach()


def wants_input_gradient() -> tuple[nn.Module, Calls]:
    inputs = [values(ROWS, IN, seed=k).requires_grad_() for k in range(2)]
    return UsesInputTwice(), [((x * 1.0,), {}) for x in inputs]


class KeepsMean(Net):
    """A total of the whole batch, which can be added up over slices."""

    latest = 0.0

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        self.latest = x.mean().item()
        return x


def keeps_mean() -> tuple[nn.Module, Calls]:
    return KeepsMean(), plainly(values(ROWS, IN))


class Keeps(Net):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        self.latest = x
        return x


def keeps() -> tuple[nn.Module, Calls]:
    return Keeps(), plainly(values(ROWS, IN))


class KeepsAList(Net):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        self.steps = [x, {"sine": x.sin(), "rows": len(x)}]
        self.steps.append((x.t(), "of the batch"))
        return x


def keeps_a_list() -> tuple[nn.Module, Calls]:
    return KeepsAList(), plainly(values(ROWS, IN))


class KeepsWhatItReturns(Net):
    def forward(self, x: Any, *_: Any) -> Any:
        self.latest = super().forward(x)
        return self.latest, x


def keeps_what_it_returns() -> tuple[nn.Module, Calls]:
    return KeepsWhatItReturns(), plainly(values(ROWS, IN))


class KeepsAPenalty(Net):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        self.first.penalty = x.abs().mean()
        return x


def keeps_a_penalty() -> tuple[nn.Module, Calls]:
    return KeepsAPenalty(), plainly(values(ROWS, IN))


class Centres(Net):
    """By hand, as in batch normalisation."""

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(0)
        return centred / (centred.pow(2).mean(dim=0, keepdim=True) + 0.1).sqrt()


def centres() -> tuple[nn.Module, Calls]:
    return Centres(), plainly(values(ROWS, IN))


class AveragesRows(Net):
    average: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(MID))

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.average.lerp_(self.centre(x), 0.1)
        return x

    def centre(self, x: torch.Tensor) -> torch.Tensor:
        return torch.mean(x, 0)


def averages_rows() -> tuple[nn.Module, Calls]:
    return AveragesRows(), plainly(values(ROWS, IN))


class AddsUpFeatures(Net):
    """With a dimension by the name that numpy has for it, beside a total of the batch."""

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        lengths: Any = x.sum(axis=1)  # type: ignore[call-overload]
        self.latest = lengths.mean().item()
        return x


def adds_up_features() -> tuple[nn.Module, Calls]:
    return AddsUpFeatures(), plainly(values(ROWS, IN))


class AddsUpRows(Net):
    """Weighs how often each place is the highest, as routers of experts do."""

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        often = nn.functional.one_hot(x.argmax(-1), MID).sum((0,))
        weight: torch.Tensor = often * x.softmax(-1).sum(0)
        return x * (1 + weight)


def adds_up_rows() -> tuple[nn.Module, Calls]:
    return AddsUpRows(), plainly(values(ROWS, IN))


class ReturnsMean(Net):
    def forward(self, x: Any, *_: Any) -> Any:
        y = super().forward(x)
        return y, y.detach().mean().item()


def returns_a_number() -> tuple[nn.Module, Calls]:
    return ReturnsMean(), plainly(values(ROWS, IN))


class Forces(Net):
    """Energies, and what they push their inputs to: it goes backward in its forward."""

    def forward(self, x: Any, *_: Any) -> Any:
        energy = super().forward(x).square().sum(1)
        return energy, -torch.autograd.grad(energy.sum(), x, create_graph=True)[0]


def forces_on_what_wants_them() -> tuple[nn.Module, Calls]:
    return Forces(), plainly(values(ROWS, IN).requires_grad_())


class OwnForces(Forces):
    def forward(self, x: Any, *_: Any) -> Any:
        return super().forward(x.detach().requires_grad_())


def forces() -> tuple[nn.Module, Calls]:
    return OwnForces(), plainly(values(ROWS, IN))


class ChangesParameters(Net):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.last.weight.mul_(0.9)
        self.last.bias.data = self.last.bias.data * 0.9
        return x


def changes_parameters() -> tuple[nn.Module, Calls]:
    return ChangesParameters(), plainly(values(ROWS, IN))


SPLIT: dict[Make, tuple[tuple[int | None, ...], bool]] = {
    batch_first: ((0,), False),
    sequences: ((0,), False),
    time_first: ((1,), False),
    time_first_with_state: ((1, 1), False),
    as_long_as_many: ((1,), False),
    batch_first_recurrent: ((0,), False),
    square_mask: ((0, None), False),
    keyword_mask: ((0, None), False),
    keywords: ((0, 0, None), False),
    counts: ((0,), False),
    own_loss: ((0, 0), True),
    own_penalty: ((0,), True),
    folded_heads: ((0, 0, 0), False),
    drops_out: ((0,), False),
    normalises: ((0,), False),
    prints: ((0,), False),
    counts_calls: ((0,), False),
    wants_input_gradient: ((0,), False),
    keeps_mean: ((0,), True),
    keeps: ((0,), False),
    keeps_a_list: ((0,), False),
    keeps_what_it_returns: ((0,), False),
    keeps_a_penalty: ((0,), True),
    centres: ((0,), True),
    changes_parameters: ((0,), False),
    averages_rows: ((0,), True),
    adds_up_features: ((0,), True),
    adds_up_rows: ((0,), True),
    returns_a_number: ((0,), True),
    forces: ((0,), False),
    forces_on_what_wants_them: ((0,), False),
}


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("make", SPLIT, ids=lambda make: make.__name__)
def test_modules_that_are_split(make: Make, workers: int) -> None:
    found = check(workers, make, SPLIT)
    assert found.way == SPLIT[make], found.why
    assert found.told == []


# what runs whole, and why


class Mixes(Net):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.roll(1, 0)


def mixes() -> tuple[nn.Module, Calls]:
    return Mixes(), plainly(values(ROWS, IN))


class Contrasts(Net):
    def forward(self, x: Any, *_: Any) -> Any:
        y = super().forward(x)
        return y @ y.t()


def contrasts() -> tuple[nn.Module, Calls]:
    return Contrasts(), plainly(values(ROWS, IN))


class Graph(Net):
    def forward(self, x: Any, adjacency: Any = None) -> Any:
        return self.last(adjacency @ self.first(x).tanh())


def graph() -> tuple[nn.Module, Calls]:
    return Graph(), plainly(values(ROWS, IN), values(ROWS, ROWS, seed=1))


class GoesOn(Net):
    latest: torch.Tensor | None = None

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        self.latest = x if self.latest is None else x + self.latest.detach()
        return self.latest


def goes_on() -> tuple[nn.Module, Calls]:
    return GoesOn(), plainly(values(ROWS, IN))


class KeepsSometimes(Net):
    calls = 0

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls != 2:
            self.latest = x.detach()
        return x


def keeps_sometimes() -> tuple[nn.Module, Calls]:
    return KeepsSometimes(), plainly(values(ROWS, IN))


class KeepsAnOutlier(Net):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        self.latest = x.amax(0)
        return x


def keeps_an_outlier() -> tuple[nn.Module, Calls]:
    return KeepsAnOutlier(), plainly(values(ROWS, IN))


class Averages(AveragesRows):
    def centre(self, x: torch.Tensor) -> torch.Tensor:
        return x.median(0).values


def averages() -> tuple[nn.Module, Calls]:
    return Averages(), plainly(values(ROWS, IN))


class PrintsSize(Net):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        print("forward of", x.shape[0])  # noqa: T201 - it is what is tried
        return x


def prints_size() -> tuple[nn.Module, Calls]:
    return PrintsSize(), plainly(values(ROWS, IN))


class Decides(Net):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu() if random.random() < 0.5 else x.tanh()


def decides() -> tuple[nn.Module, Calls]:
    return Decides(), plainly(values(ROWS, IN), calls=6)


class DecidesByNumpy(Net):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x * float(np.random.rand())


def decides_by_numpy() -> tuple[nn.Module, Calls]:
    return DecidesByNumpy(), plainly(values(ROWS, IN))


class ChangesParametersByRows(Net):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        self.last.weight.data.mul_(1 + 0.1 * float(x[0, 0].detach()))
        return x


def changes_parameters_by_rows() -> tuple[nn.Module, Calls]:
    return ChangesParametersByRows(), plainly(values(ROWS, IN))


class StepsAnOptimizer(Net):
    def __init__(self) -> None:
        super().__init__()
        self.optimizer = torch.optim.Adam(self.parameters())
        self.optimizer.register_step_pre_hook(refuse_step)  # as a worker does of all

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        self.optimizer.step()
        return x


def steps_an_optimizer() -> tuple[nn.Module, Calls]:
    return StepsAnOptimizer(), plainly(values(ROWS, IN))


class GoesBackward(Net):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            self.last.weight.pow(2).sum().backward()
        return x


def goes_backward() -> tuple[nn.Module, Calls]:
    return GoesBackward(), plainly(values(ROWS, IN))


class Strays(Net):
    """It uses a parameter that is not its own."""

    def __init__(self) -> None:
        super().__init__()
        self.held = (nn.Parameter(torch.full((MID,), 0.3, dtype=torch.float64)),)

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.held[0]


def strays() -> tuple[nn.Module, Calls]:
    return Strays(), plainly(values(ROWS, IN))


class Sorts(Net):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x.sort(0).values


def sorts() -> tuple[nn.Module, Calls]:
    return Sorts(), plainly(values(ROWS, IN))


class Chooses(Net):
    """Its output has as many rows as it likes."""

    def forward(self, x: Any, *_: Any) -> Any:
        return super().forward(x[x[:, 0] > 0])


def chooses() -> tuple[nn.Module, Calls]:
    return Chooses(), plainly(values(ROWS, IN))


class RefusesSlices(Net):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(ROWS, MID)


def refuses_slices() -> tuple[nn.Module, Calls]:
    return RefusesSlices(), plainly(values(ROWS, IN))


class BranchesOnSize(Net):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if len(x) == ROWS else x


def branches_on_size() -> tuple[nn.Module, Calls]:
    return BranchesOnSize(), plainly(values(ROWS, IN))


class ChangesInput(Net):
    def forward(self, x: Any, *_: Any) -> Any:
        x.sub_(0.5).div_(0.25)
        return super().forward(x)


def changes_input() -> tuple[nn.Module, Calls]:
    return ChangesInput(), plainly(values(ROWS, IN))


class DrawsForAll(Net):
    """Random numbers that do not come in rows."""

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return (
            x * torch.rand(1, dtype=x.dtype) if len(x) > 3 else x * torch.rand(MID, dtype=x.dtype)
        )


def draws_for_all() -> tuple[nn.Module, Calls]:
    return DrawsForAll(), plainly(values(ROWS, IN))


class ReturnsMany(Net):
    """One output a row."""

    def forward(self, x: Any, *_: Any) -> Any:
        return [self.first(row) for row in x]


def returns_many() -> tuple[nn.Module, Calls]:
    return ReturnsMany(), plainly(values(ROWS, IN))


def few_rows() -> tuple[nn.Module, Calls]:
    return Net(), plainly(values(1, IN))


WHOLE: dict[Make, str] = {
    mixes: "mix rows",
    contrasts: "outputs",
    graph: "",
    goes_on: "goes by what an earlier call kept in its attributes (latest)",
    keeps_sometimes: "no longer does with tensors in its attributes",
    keeps_an_outlier: "mix rows",
    averages: "buffers",
    prints_size: "prints",
    decides: "random numbers of Python or numpy",
    decides_by_numpy: "random numbers of Python or numpy",
    changes_parameters_by_rows: "",
    steps_an_optimizer: "steps an optimizer",
    goes_backward: "adds to the gradients",
    strays: "not its own (of shape (13,))",
    sorts: "mix rows",
    chooses: "",
    refuses_slices: "raises RuntimeError",
    branches_on_size: "mix rows",
    changes_input: "",
    draws_for_all: "",
    returns_many: "number of its outputs",
}


@pytest.mark.parametrize("workers", [2])
@pytest.mark.parametrize("make", WHOLE, ids=lambda make: make.__name__)
def test_modules_that_run_whole(make: Make, workers: int) -> None:
    found = check(workers, make, WHOLE)
    assert found.way is None
    assert WHOLE[make] in found.why
    assert found.why
    (told,) = found.told
    assert f"runs {type(make()[0]).__name__} whole" in told
    assert found.why in told


def test_a_batch_with_fewer_rows_than_workers_proves_nothing() -> None:
    found = check(2, few_rows)
    assert (found.way, found.why, found.told) == (None, "", [])


class HookedUp(Net):
    """It can be called with its hook only."""

    def __init__(self) -> None:
        super().__init__()
        self.register_forward_pre_hook(lambda _, args: (args[0].double(),))


def cannot_be_tried() -> tuple[nn.Module, Calls]:
    return HookedUp(), plainly((values(ROWS, IN) * 10).long())


def test_a_module_that_cannot_be_tried_runs_whole_and_says_so() -> None:
    found = check(2, cannot_be_tried)
    (told,) = found.told
    assert "runs HookedUp whole" in told
    assert "tried without its hooks, it raises RuntimeError: mat1 and mat2" in told


# what a proof does not hold for


class Changes(Net):
    """It mixes rows from its fifth call on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x - x.mean(0) if self.calls > 7 else x


def changes_its_mind(_: Any, told: list[Any]) -> list[str]:
    module, x = Changes().double(), values(ROWS, IN)
    for _ in range(12):
        module(x)
    return [text for _, text in told]


def test_a_module_that_changes_its_mind_is_found_out_and_said_to_be() -> None:
    told = run_in_processes(2, changes_its_mind)
    assert len(told[0]) == 1
    for part in ("Changes", "was split until now", "mix rows", "calls ago, may be inexact"):
        assert part in told[0][0]


def modes_of_a_module(mode: Any, _: list[Any]) -> list[int]:
    """Each kind of call has a proof of its own."""
    module, x = Normalises().double(), values(ROWS, IN)
    module(x)
    module.eval()
    module(x)
    with torch.no_grad():
        module(x)
    module(x.view(ROWS, 1, IN)[:, 0])
    (proofs,) = mode.calls._proofs.values()
    return [len(proofs), sum(p.way is not None for p in proofs.values())]


def test_training_evaluation_and_no_grad_are_proven_each() -> None:
    assert run_in_processes(2, modes_of_a_module) == [[3, 3]] * 2


def fails_in_forward(_mode: Any, _told: list[Any]) -> tuple[str, int, bool]:
    class Fails(Net):
        calls = 0

        def middle(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            message = f"my own error with {len(x)} rows"
            raise ValueError(message)

    module = Fails().double()
    before = torch.get_rng_state()
    try:
        module(values(ROWS, IN))
    except ValueError as error:
        return str(error), module.calls, torch.equal(before, torch.get_rng_state())
    return "", 0, False


def test_a_module_that_raises_raises_once() -> None:
    assert run_in_processes(2, fails_in_forward) == [("my own error with 7 rows", 1, True)] * 2


def differing_copies(mode: Any, _: list[Any]) -> list[float]:
    """A script that forgot to seed, say: the copies of its module do not start alike."""
    mode.start()
    torch.manual_seed(mode.group.index)
    module = Net().double()
    module(values(ROWS, IN))
    return [float(p.detach().sum()) for p in module.parameters()]


def test_all_workers_begin_with_the_leaders_parameters() -> None:
    one, two = run_in_processes(2, differing_copies)
    torch.manual_seed(0)
    expected = [float(p.detach().sum()) for p in Net().double().parameters()]
    assert one == two == expected


# coincidences: sizes inside a module that look like rows of the batch


class Penalised(nn.Module):
    """Its own loss has a penalty on a weight with as many rows as some slices."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(IN, 3)

    def forward(self, x: Any) -> Any:
        return self.last(x).pow(2).mean() + self.last.weight.pow(2).sum()


def penalty_in_the_last_batch() -> tuple[nn.Module, Calls]:
    """Batches of 10, slices of 5 on two workers; then a last one of 6, slices of 3."""
    return Penalised(), plainly(values(10, IN)) + plainly(values(6, IN))


class Disconnects(nn.Module):
    """Dropout of a weight: its mask has as many rows as some slices."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(IN, 3)

    def forward(self, x: Any) -> Any:
        weight = nn.functional.dropout(self.last.weight, 0.5, self.training)
        return nn.functional.linear(x, weight, self.last.bias)


def dropped_weights_in_the_last_batch() -> tuple[nn.Module, Calls]:
    return Disconnects(), plainly(values(10, IN)) + plainly(values(6, IN))


@pytest.mark.parametrize(
    "make", [penalty_in_the_last_batch, dropped_weights_in_the_last_batch], ids=lambda m: m.__name__
)
def test_a_proof_for_slices_of_one_size_is_not_stretched(make: Make) -> None:
    check(2, make)
