"""Calls of modules: split where that is proven to change nothing, whole otherwise.

[Note: calls]
The *outermost* call of a module that has parameters is where the script's whole world ends: inside,
each worker computes its rows with plain tensors at full speed. Everything else (modules without
parameters, functions, the loss) runs in the script's world on whole values.

Whether a module may be split is not guessed: see `prove.py`. A call is run
*split* (its inputs' rows in, its outputs joined), or
*whole* (every worker does all of it; right, and no faster).
"""

from __future__ import annotations

import argparse
import contextlib
import weakref
from collections.abc import Callable
from dataclasses import is_dataclass
from types import SimpleNamespace
from typing import Any, Final

import torch
from torch import nn
from torch.autograd import forward_ad

from pellucid.errors import DivergenceError, ShapeError, StoppedError
from pellucid.sync.exact import handlers, kept
from pellucid.sync.exact.aliases import aliased
from pellucid.sync.exact.gradients import Reducer
from pellucid.sync.exact.leaving import hand_out_computed, leave
from pellucid.sync.exact.proof import MIXES, Proof, Traces
from pellucid.sync.exact.prove import TOO_SMALL, Prover, agree, numbers_of
from pellucid.sync.exact.race import Race
from pellucid.sync.exact.raised import agree_on_error
from pellucid.sync.exact.region import Region, inside, is_inside
from pellucid.sync.exact.replicas import Order
from pellucid.sync.exact.rows import Rows
from pellucid.sync.exact.saved import Noted, Saved, has_hooks
from pellucid.sync.exact.strays import STRAY, inner_ends, stray
from pellucid.sync.exact.tree import leaves_of, outputs_of
from pellucid.sync.exact.view import make_whole_within
from pellucid.sync.exact.ways import Call, Way, choice
from pellucid.sync.shared.parts import modules_of
from pellucid.sync.shared.script_thread import in_script_thread
from pellucid.transport.shared_memory import Group

__all__ = ["Calls"]

Original = Callable[..., Any]

MOST_SETTINGS: Final = 64  # that are looked at, at every call
_SETTINGS = {argparse.Namespace, SimpleNamespace}
_OF_ALL = vars(nn.Module()).keys() - {"training"}  # attributes that all modules have


class Calls:
    """Answers the calls of modules.

    Args:
        group: the workers.
        reducer: sums gradients.
        start: makes sure that all workers run.
        explain: ``explain(slug, text)`` tells the user something once.
        always_split: split also what is too small to gain by it.
        all_threads: of a worker that would go on alone.
    """

    def __init__(
        self,
        group: Group,
        reducer: Reducer,
        start: Callable[[], None],
        explain: Callable[[str, str], None],
        *,
        always_split: bool = False,
        all_threads: int = 1,
    ) -> None:
        self._group = group
        self.reducer = reducer
        self._start = start
        self._explain = explain
        self._prover = Prover(group, always_split=always_split, all_threads=all_threads)
        self._proofs: weakref.WeakKeyDictionary[nn.Module, dict[Any, Proof]] = (
            weakref.WeakKeyDictionary()
        )
        # where modules leave tensors, in calls of any kind
        self._kept: weakref.WeakKeyDictionary[nn.Module, set[kept.Place]] = (
            weakref.WeakKeyDictionary()
        )
        # of submodules: where they stand
        self._switches: weakref.WeakKeyDictionary[nn.Module, list[tuple[dict[str, Any], str]]] = (
            weakref.WeakKeyDictionary()
        )
        self._in_script = 0  # nanoseconds of the call that is being run
        self.rows = 0  # that entered training calls since the last step, for the meters
        self.alone = False  # nothing is ever split from now on
        self.trains_split = False  # a call that trains was split
        # by the identity of its proof, how each kind of call that trains did split and alone; None
        # while nobody asks
        self.races: dict[int, Race | None] | None = None
        self.latest_region: Region | None = None
        self._latest_module: weakref.ref[nn.Module] | None = None
        self.latest_way: Way | None = None

    @property
    def order(self) -> Order:
        """Numbers of all parameters of modules, the same on all workers."""
        return self._prover.order

    @property
    def latest_module(self) -> nn.Module | None:
        """The module that was split last, if the script still has it."""
        return None if self._latest_module is None else self._latest_module()

    def call(self, original: Original, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """What ``module(*args, **kwargs)`` gives the script."""
        if self.alone:
            if not self.rows and module.training:
                self.rows = _first_size((args, kwargs))
            return original(module, *args, **kwargs)
        if is_inside() or not in_script_thread() or torch._C._get_tracing_state():
            return original(module, *args, **kwargs)
        if not _has_parameters(module):
            return original(module, *args, **kwargs)
        self._start()
        began = self._group.own_time()
        self._in_script = 0
        self.reducer.forget()
        output = self._outermost(Call.of(original, module, (args, kwargs)))
        self._group.note_overhead(self._group.own_time() - began - self._in_script)
        return output

    def as_kept(self, module: nn.Module) -> contextlib.AbstractContextManager[None]:
        """While backward runs a part of a module again, leave what its forward has kept."""
        return kept.unchanged(self._kept.get(module, ()))

    def _outermost(self, call: Call) -> Any:
        tensors = zip(call.leaves, call.shapes, strict=True)
        batched, shape = next((pair for pair in tensors if pair[1]), (None, None))
        if shape is None or (type(batched) is torch.Tensor and batched.is_meta):
            return self._run_whole(call)  # nothing that could be split, or nothing is computed
        trains = torch.is_grad_enabled() and call.module.training
        if trains:
            self.rows = shape[0]
        if under := _looked_on_by():
            self._explain(under, f"under {under}, every worker runs modules whole")
            return self._run_whole(call)
        proof = self._proof(call, shape[:2])
        rows = call.division(proof.way, self._group) if proof.way else None
        if rows is None or (proof.kept and self._is_looked_into(call.module)):
            output = self._run_whole(call)
            if proof.passing and proof.why:  # and yet the call has not raised
                self._explain_whole(call.module, proof)
            return output
        self.trains_split |= trains
        if self.races is not None and trains and proof.way is not None:
            self._race(call, proof, proof.way, rows)
        if proof.calls == 1 and torch.is_grad_enabled():
            return self._run_first(call, proof, rows)
        return self._run_split(call, proof, rows)

    def _is_looked_into(self, module: nn.Module) -> bool:
        """Whether hooks could see what a module keeps, before it is made whole."""
        if not has_hooks(module):
            return False
        name = type(module).__name__
        text = (
            f"every worker runs {name} whole while it has forward hooks: it keeps tensors in its "
            f"attributes, where a hook would find one worker's rows"
        )
        self._explain(f"hooks-{name}", text)
        return True

    def _race(self, call: Call, proof: Proof, way: Way, rows: Rows) -> None:
        """Time a call of this kind both ways, once."""
        assert self.races is not None
        if id(proof) not in self.races:
            self.races[id(proof)] = self._prover.race(call, way, rows)

    def _run_first(self, call: Call, proof: Proof, rows: Rows) -> Any:
        """The first split call with gradients: look where they would go before trusting it."""
        saved = Saved(call.module)
        given = inner_ends(call.leaves)
        output = self._run_split(call, proof, rows)
        why = stray([output, *kept.values(proof.kept)], given)
        if not self._group.all_reduce("stray parameters", torch.tensor([bool(why)]).int()):
            return output
        return self._run_whole_instead(call, proof, saved, why or STRAY)

    def _proof(self, call: Call, size: tuple[int, ...]) -> Proof:
        """What is known about calls of this kind, found out or looked after if it is time to.

        Args:
            call: the call.
            size: of its first batched input, in the dimensions that may count the batch.
        """
        module = call.module
        proofs = self._proofs.setdefault(module, {})
        # a slice of one row tells less about how it lies in memory: it is proven by itself
        few = size[0] if size[0] < 2 * len(self._group.living) else 0
        casts = (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda"))
        reports = handlers.are_looking_on()
        kind = (self._modes(module), torch.is_grad_enabled(), casts, few, reports, call.kind())
        proof = proofs.get((kind, size)) or proofs.get((kind, None))
        if proof is None or proof.is_due(_numbers(module)):
            self._switches.pop(module, None)  # they may be more by now
            fresh = self._prover.prove(call, proof)
            if fresh.passing:
                return fresh
            if fresh.way is None and fresh.why:
                self._explain_whole(module, fresh, 0 if proof is None else proof.in_doubt)
            proof = fresh
            # what rests on sizes is for this size: others will be proven by themselves
            proofs[kind, size if proof.guessed else None] = proof
            if proof.kept:
                self._kept.setdefault(module, set()).update(proof.kept)
        proof.calls += 1
        return proof

    def _modes(self, module: nn.Module) -> tuple[Any, ...]:
        """Switches by which scripts have a module do, or return, something else."""
        own = _choices(module)
        switches = self._switches.get(module)
        if switches is None:
            switches = self._switches[module] = _switches(module)
        return (*own, *[choice(attributes.get(name)) for attributes, name in switches])

    def _explain_whole(self, module: nn.Module, proof: Proof, in_doubt: int = 0) -> None:
        """Say why a module is run whole.

        Args:
            module: the module.
            proof: why.
            in_doubt: calls that were split and perhaps should not have been.
        """
        name = type(module).__name__
        if proof.why == TOO_SMALL:
            text = f"every worker runs {name} whole: {TOO_SMALL} (--split always splits it)"
        elif in_doubt:
            text = (
                f"{name} was split until now, but a repeated check found that its slices no longer "
                f"add up to the whole ({proof.why}); from now on every worker runs it whole. Steps "
                f"since the last check, {in_doubt} calls ago, may be inexact"
            )
        else:
            text = (
                f"every worker runs {name} whole, so it is no faster than alone: {proof.why}. A "
                f"module splits when each row of its outputs depends on the same row of its inputs"
            )
        self._explain(f"whole-{name}-{proof.why}", text)

    def _run_whole(self, call: Call) -> Any:
        """Run a call on whole values, the same on every worker."""
        self.latest_region = None
        make_whole_within(call.inputs)  # forward may add to a list: to the script's own
        with inside():
            return self._timed(call.whole)

    def _run_split(self, call: Call, proof: Proof, rows: Rows) -> Any:
        """Run a call on our rows."""
        keeps = call.module in self._kept
        saved: Saved | Noted | None = None
        if keeps or proof.alike or (proof.varies and Traces.MORE in proof.traces):
            saved = Saved(call.module, weights=False, deep=bool(proof.alike))
        elif proof.varies and proof.traces:
            saved = Noted(call.module, buffers=Traces.BUFFERS in proof.traces)
        try:
            return self._split(call, proof, rows, saved)
        except StoppedError:
            raise
        except ShapeError as error:  # all have met it
            if saved is None and proof.traces:
                raise
            return self._run_whole_instead(call, proof, saved, str(error))
        except Exception as error:  # the script's own, or the sign that another worker met one
            agreed = agree_on_error(self._group, call.module, error)
            if saved is not None and keeps and not isinstance(agreed, DivergenceError):
                saved.restore()
                output = self._run_whole(call)  # which raises what is the script's own
                proof.way, proof.why = None, kept.CHANGED
                self._explain_whole(call.module, proof)
                return output
            if agreed is error:
                raise
            raise agreed from None

    def _run_whole_instead(
        self, call: Call, proof: Proof, saved: Saved | Noted | None, why: str
    ) -> Any:
        """Run a call whole that was run on our rows, and all that follow it."""
        proof.way, proof.why = None, why
        self._explain_whole(call.module, proof)
        if saved is not None:
            saved.restore()
        return self._run_whole(call)

    def _split(self, call: Call, proof: Proof, rows: Rows, saved: Saved | Noted | None) -> Any:
        """Run a call on our rows, where nothing goes wrong."""
        way = proof.way
        assert way is not None
        region = way.region(self._group, rows)
        self.latest_region, self.latest_way = region, way
        self._latest_module = weakref.ref(call.module)  # the script may want its memory back
        tables = aliased(call.module, self.reducer)
        with tables as ties, inside():
            region.ties.extend(ties)
            guard = kept.Guard(self._kept.get(call.module, ()))
            output = self._timed(lambda: call.split(region, way))
            aside = guard.take(proof.kept)
        if proof.alike and not self._are_alike([output, *aside], proof):
            return self._run_whole_instead(call, proof, saved, MIXES)
        try:
            hand_out_computed(region, tables.modules)
            output, *aside = leave(region, [output, *aside], proof, call.module)
            kept.put(proof.kept, aside)
            return output
        finally:
            region.ties.clear()  # they lead to what entered, and the region is kept

    def _timed(self, run: Callable[[], Any]) -> Any:
        """Run the script's own part of a call."""
        began = self._group.own_time()
        output = run()
        self._in_script += self._group.own_time() - began
        return output

    def _are_alike(self, output: Any, proof: Proof) -> bool:
        """Whether outputs that were the same on all workers are so again, this time."""
        leaves = outputs_of(output)
        numbers = [numbers_of(leaves[k]) for k in proof.alike if k < len(leaves)]
        return agree(self._group, [n for n in numbers if n is not None])


def _has_parameters(module: nn.Module) -> bool:
    """As ``module.parameters()`` would tell; this is asked at every call."""
    return any(parameter is not None for parameter in module._parameters.values()) or any(
        child is not None and _has_parameters(child) for child in module._modules.values()
    )


def _looked_on_by() -> str:
    """What sees or changes single operations at the moment; "" if nothing does."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "torch.func"
    if forward_ad._current_level >= 0:
        return "torch.autograd.forward_ad"
    if torch._C._len_torch_dispatch_stack():
        return "a TorchDispatchMode"
    depth = torch._C._len_torch_function_stack()
    modes = [torch._C._get_function_stack_at(k) for k in range(depth)]
    # torch's own tell where tensors are to be made
    own = all(type(mode).__module__.startswith("torch.") for mode in modes)
    return "" if own else "a TorchFunctionMode"


def _choices(module: nn.Module) -> list[Any]:
    """Values by which a script may have a module do something else: its own and its settings'."""
    found = []
    for name, value in vars(module).items():
        if name in _OF_ALL:
            continue
        found.append(choice(value))
        settings = value if type(value) is dict else None
        if type(value) in _SETTINGS or (is_dataclass(value) and not isinstance(value, type)):
            settings = getattr(value, "__dict__", None)  # those with slots have none
        if settings and len(settings) <= MOST_SETTINGS:
            found += [choice(setting) for setting in settings.values()]
    return found


def _switches(module: nn.Module) -> list[tuple[dict[str, Any], str]]:
    """Attributes of submodules that may choose what they do, and where they stand.

    Of torch's own modules only whether they are training: the rest of them is not switched.
    """
    found = []
    for inner in modules_of(module):
        if inner is not module:
            attributes = vars(inner)
            own = not type(inner).__module__.startswith("torch.")
            switches = [name for name, value in attributes.items() if choice(value) is not None]
            names = switches if own else ["training"]
            found += [(attributes, name) for name in names]
    return found


def _numbers(module: nn.Module) -> dict[str, int | float]:
    """Numbers among a module's attributes, which the script may set."""
    return {k: v for k, v in vars(module).items() if type(v) is int or type(v) is float}


def _first_size(inputs: Any) -> int:
    """Rows of the first batched input, 0 if there is none."""
    sizes = (x.shape[0] for x in leaves_of(inputs) if isinstance(x, torch.Tensor) and x.ndim)
    return next(sizes, 0)
