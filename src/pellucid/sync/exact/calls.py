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

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import nn

from pellucid.errors import UnsupportedError
from pellucid.sync.exact.gradients import Reducer, stray_leaves
from pellucid.sync.exact.loader import in_script_thread
from pellucid.sync.exact.prove import COUNT, TOO_SMALL, Proof, Prover, Saved
from pellucid.sync.exact.region import Join, LeaveShare, Region, entered, inside, is_inside
from pellucid.sync.exact.rows import Rows, split_rows
from pellucid.sync.exact.tree import leaves_of, map_leaves
from pellucid.sync.exact.view import BatchView, whole_of
from pellucid.sync.exact.ways import Way, enter, leaf_key
from pellucid.transport.shared_memory import Group

__all__ = ["Calls"]

# outputs smaller than this are made whole at once: losses and metrics will ask for them anyway
LARGE_BYTES: Final = 512 << 10

Original = Callable[..., Any]


class Calls:
    """Answers the calls of modules.

    Args:
        group: the workers.
        reducer: sums gradients.
        start: makes sure that all workers run.
        explain: tells the user something once.
        always_split: split also what is too small to gain by it.
    """

    def __init__(
        self,
        group: Group,
        reducer: Reducer,
        start: Callable[[], None],
        explain: Callable[[str, str], None],
        always_split: bool = False,
    ) -> None:
        self._group = group
        self._reducer = reducer
        self._start = start
        self._explain = explain
        self._in_script = 0  # nanoseconds of the call that is being run
        self._proofs: weakref.WeakKeyDictionary[nn.Module, dict[Any, Proof]] = (
            weakref.WeakKeyDictionary()
        )
        self._prover = Prover(group, always_split=always_split)
        self.rows = 0  # that entered training calls since the last step, for the meters
        self.latest_region: Region | None = None
        self.latest_module: nn.Module | None = None
        self.latest_way: Way | None = None

    def call(self, original: Original, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """What ``module(*args, **kwargs)`` gives the script."""
        if is_inside() or not in_script_thread() or torch.jit.is_tracing():
            return original(module, *args, **kwargs)
        if torch._C._functorch.peek_interpreter_stack() is not None:
            self._explain(
                "functorch", "calls of modules under torch.func are run whole on every worker"
            )
            return self.run_whole(original, module, (args, kwargs))
        if next(module.parameters(), None) is None:
            return original(module, *args, **kwargs)
        self._start()
        began = self._group.own_time()
        self._in_script = 0
        output = self._outermost(original, module, (args, kwargs))
        self._group.note_overhead(self._group.own_time() - began - self._in_script)
        return output

    def _outermost(self, original: Original, module: nn.Module, inputs: Any) -> Any:
        self._reducer.forget()
        leaves = leaves_of(inputs)
        rows = self._rows_of_views(leaves)
        if rows is None and not any(isinstance(x, torch.Tensor) and x.ndim for x in leaves):
            return self.run_whole(original, module, inputs)  # nothing that could be split
        proof = self._proof(original, module, inputs, leaves, rows)
        if proof.way is None:
            return self.run_whole(original, module, inputs)
        rows = self._rows(proof.way, leaves, rows)
        if rows is None:
            return self.run_whole(original, module, inputs)
        if proof.calls == 1 and torch.is_grad_enabled():
            return self._run_first(original, module, inputs, proof, rows)
        return self._run_split(original, module, inputs, proof, rows)

    def _run_first(
        self, original: Original, module: nn.Module, inputs: Any, proof: Proof, rows: Rows
    ) -> Any:
        """The first split call with gradients: look where they would go before trusting it."""
        saved = Saved(module)
        output = self._run_split(original, module, inputs, proof, rows)
        stray = stray_leaves(output)
        if not stray:
            return output
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in stray[:3])
        proof.way, proof.why = None, f"it uses parameters that are not its own (of shape {shapes})"
        self._explain(f"whole-{type(module).__name__}-stray", self._why(module, proof))
        saved.restore()
        return self.run_whole(original, module, inputs)

    def _rows_of_views(self, leaves: list[Any]) -> Rows | None:
        for leaf in leaves:
            if isinstance(leaf, BatchView) and leaf.whole is None:
                return leaf.rows
        return None

    def _rows(self, way: Way, leaves: list[Any], rows: Rows | None) -> Rows | None:
        """How this call's batch is divided; None where it cannot be, this time."""
        group = self._group
        totals = {
            leaf.shape[dim] for leaf, dim in zip(leaves, way.dims, strict=True) if dim is not None
        }
        if len(totals) != 1:
            return None
        (total,) = totals
        if rows is not None:
            others = (x.rows for x in leaves if isinstance(x, BatchView) and x.whole is None)
            same = rows.total == total and all(r == rows for r in others)
            return rows if same and rows.local else None
        if total < len(group.living):
            return None
        return split_rows(total, tuple(group.living), group.workers, group.index)

    def _proof(
        self,
        original: Original,
        module: nn.Module,
        inputs: Any,
        leaves: list[Any],
        rows: Rows | None,
    ) -> Proof:
        proofs = self._proofs.setdefault(module, {})
        key = (
            module.training,
            torch.is_grad_enabled(),
            torch.is_autocast_enabled("cpu"),
            self._few_rows(leaves),
            tuple(leaf_key(leaf) for leaf in leaves),
        )
        proof = proofs.get(key)
        if proof is None or proof.is_due():
            fresh = self._prover.prove(original, module, inputs, leaves, rows, proof)
            if fresh is None:
                return Proof(None)  # not provable on this call: run it whole, try on the next
            if fresh.way is None and fresh.why:
                self._explain(
                    f"whole-{type(module).__name__}-{fresh.why}", self._why(module, fresh)
                )
            proof = proofs[key] = fresh
        proof.calls += 1
        return proof

    def _few_rows(self, leaves: list[Any]) -> int:
        """The number of rows, if slices would be of one row or none; else 0.

        A slice of one row tells less about how it lies in memory: it is proven by itself.
        """
        first = next(leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.ndim)
        rows = int(first.shape[0])
        return rows if rows < 2 * len(self._group.living) else 0

    def _why(self, module: nn.Module, proof: Proof) -> str:
        name = type(module).__name__
        if proof.calls > 1:
            return (
                f"{name} was split until now, but a repeated check found that its slices no longer "
                f"add up to the whole ({proof.why}); from now on every worker runs it whole. Steps "
                f"since the last check, {proof.calls - proof.checked} calls ago, may be inexact"
            )
        if proof.why == TOO_SMALL:
            return f"every worker runs {name} whole: {TOO_SMALL} (--split always splits it)"
        return (
            f"every worker runs {name} whole, so it is no faster than alone: {proof.why}. "
            f"A module splits when each row of its outputs depends on the same row of its inputs"
        )

    def run_whole(self, original: Original, module: nn.Module, inputs: Any) -> Any:
        """Run a call on whole values, the same on every worker."""
        args, kwargs = whole_of(inputs)
        self.latest_region = None
        with inside():
            return self._timed(original, module, args, kwargs)

    def _timed(self, original: Original, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Run the script's own part of a call."""
        began = self._group.own_time()
        output = original(module, *args, **kwargs)
        self._in_script += self._group.own_time() - began
        return output

    def _run_split(
        self, original: Original, module: nn.Module, inputs: Any, proof: Proof, rows: Rows
    ) -> Any:
        way = proof.way
        assert way is not None
        if torch.is_grad_enabled() and module.training:
            self.rows = rows.total
        region = Region(self._group, rows, way.main_dim, way.reduces)
        self.latest_region, self.latest_module, self.latest_way = region, module, way
        args, kwargs = enter(region, way, inputs)
        with self.aliased(module), inside(), way.seams(), entered(region):
            output = self._timed(original, module, args, kwargs)
        return self._leave(region, output, proof, module)

    @contextmanager
    def aliased(self, module: nn.Module) -> Iterator[None]:
        """While the body runs, the module's parameters are their aliases."""
        if not torch.is_grad_enabled():
            yield
            return
        slots: list[tuple[dict[str, Any], str, torch.Tensor]] = []
        distinct: dict[int, torch.Tensor] = {}
        recurrent: list[nn.RNNBase] = []
        for inner in module.modules():
            for name, parameter in inner._parameters.items():
                if parameter is not None and parameter.requires_grad:
                    slots.append((inner._parameters, name, parameter))
                    distinct[id(parameter)] = parameter
            if isinstance(inner, nn.RNNBase):
                recurrent.append(inner)
        if not slots:
            yield
            return
        aliases = dict(zip(distinct, self._reducer.enter(list(distinct.values())), strict=True))
        flat = [(inner, inner._flat_weights) for inner in recurrent]
        for owner, name, parameter in slots:
            owner[name] = aliases[id(parameter)]
        for inner, weights in flat:
            vars(inner)["_flat_weights"] = [aliases.get(id(w), w) for w in weights]
        try:
            yield
        finally:
            for owner, name, parameter in slots:
                if owner.get(name) is aliases[id(parameter)]:
                    owner[name] = parameter
            for inner, weights in flat:
                vars(inner)["_flat_weights"] = weights

    def _leave(self, region: Region, output: Any, proof: Proof, module: nn.Module) -> Any:
        """Outputs for the script: rows joined or behind a view, the rest as it is."""
        leaves = leaves_of(output)
        if len(leaves) != len(proof.outputs):
            msg = (
                f"{type(module).__name__} returned {len(leaves)} values where it returned "
                f"{len(proof.outputs)} before with inputs of the same kind: exact mode cannot tell "
                f"how to join them. Return the same structure for inputs of the same kind"
            )
            raise UnsupportedError(msg)
        joined: dict[int, Any] = {}
        small: list[tuple[int, int]] = []
        for k, (leaf, dim) in enumerate(zip(leaves, proof.outputs, strict=True)):
            if dim == COUNT:
                joined[k] = region.rows.total
            elif not isinstance(leaf, torch.Tensor):
                continue
            elif dim is None:
                leaving = leaf.requires_grad and torch.is_grad_enabled()
                joined[k] = LeaveShare.apply(region.group, leaf) if leaving else leaf
            elif _is_large(leaf, dim, region.rows):
                joined[k] = BatchView(region.group, region.rows, leaf)
            else:
                small.append((k, dim))
        if small:
            places, dims = zip(*small, strict=True)
            kind = f"outputs of {type(module).__name__}"
            wholes = Join.apply(region.group, region.rows, dims, kind, *(leaves[k] for k in places))
            joined.update(zip(places, wholes, strict=True))
        order = iter(range(len(leaves)))

        def take(leaf: Any) -> Any:
            return joined.get(next(order), leaf)

        return map_leaves(take, output)


def _is_large(leaf: torch.Tensor, dim: int, rows: Rows) -> bool:
    """Whether an output stays split; the same answer on all workers."""
    if dim != 0 or leaf.shape[0] != rows.local:
        return False
    per_row = leaf.numel() // rows.local * leaf.element_size()
    return per_row * rows.total >= LARGE_BYTES
