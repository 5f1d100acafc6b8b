"""Parameters on their way into a region, and their gradients on their way out.

[Note: aliases]
Inside a split call each parameter is stood in for by an *alias*: a tensor over the same memory
whose backward is ours. What reaches an alias is this worker's part of the gradient, from its own
rows, and must be summed over workers; what reaches the parameter by any other way (a weight decay
written by hand, a module run whole) is already whole and the same everywhere, and must not. So the
alias is what tells the two apart, and nothing else needs to know.

Aliases are made bucket by bucket, in the reverse of the order of registration, which is about the
order in which backward reaches them: a bucket leaves as soon as its last gradient is there, while
backward goes on. They are kept for the next call: nothing in their graph is of one call only.

Where the engine would merely add the gradient into ``.grad``, we do it ourselves at the end of the
backward pass, when all buckets have come back; where somebody wants the gradient at once (hooks,
``torch.autograd.grad``, ``create_graph``), it is summed on the spot.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from torch.autograd import Function, Variable

from pellucid.sync.exact.region import Narrow, Replicate, SumOut
from pellucid.sync.exact.tree import leaves_of
from pellucid.sync.exact.view import BatchView
from pellucid.transport.shared_memory import Bucket, Group

__all__ = ["Reducer", "stray_leaves"]

BUCKET_BYTES: Final = 8 << 20
# what is kept also keeps the memory of weights that the script has moved elsewhere
KEPT_BYTES: Final = 64 << 20
# the engine runs the node with the highest number first of those that are ready; made before what
# the forward makes, ours would have the lowest, and all buckets would leave at the end
FIRST: Final = 2**63


@dataclass
class _Pending:
    bucket: Bucket
    parameters: list[torch.Tensor]


@dataclass
class _Aliases:
    """The aliases of a module's parameters."""

    parameters: Sequence[torch.Tensor]
    aliases: Sequence[torch.Tensor]

    def are_of(self, parameters: Sequence[torch.Tensor]) -> bool:
        """Whether they are of these, and over the same memory still."""
        return len(parameters) == len(self.parameters) and all(
            now is then and now.is_set_to(alias)
            for now, then, alias in zip(parameters, self.parameters, self.aliases, strict=True)
        )


class Reducer:
    """Sums gradients over the workers.

    Args:
        group: the workers.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._pending: dict[int, list[_Pending]] = {}
        self._kept: weakref.WeakKeyDictionary[nn.Module, _Aliases] = weakref.WeakKeyDictionary()
        self.latest_bytes = 0  # of gradients, in the latest backward pass

    def enter(
        self, module: nn.Module, parameters: Sequence[torch.Tensor]
    ) -> Sequence[torch.Tensor]:
        """The alias of each parameter that requires a gradient; see [Note: aliases].

        Args:
            module: whose parameters they are.
            parameters: distinct tensors that require gradients, in order of registration.

        Returns:
            Their aliases, in the same order.
        """
        kept = self._kept.get(module)
        if kept is not None and kept.are_of(parameters):
            return kept.aliases
        self._kept.pop(module, None)
        aliases: list[Any] = [None] * len(parameters)
        for bucket in _buckets(parameters):
            entered = _Enter.apply(self, *(parameters[k] for k in bucket))
            entered[0].grad_fn._set_sequence_nr(FIRST)
            for k, alias in zip(bucket, entered, strict=True):
                aliases[k] = alias
        if all(type(p) is nn.Parameter and p.layout is torch.strided for p in parameters):
            size = sum(p.numel() * p.element_size() for p in parameters)
            if size <= KEPT_BYTES:
                self._kept[module] = _Aliases(parameters, aliases)
        return aliases

    def forget(self) -> None:
        """Drop what a backward pass that was broken off by an exception left behind.

        Not so within one: functions of the script's own may call a module on their way back.
        """
        if self._pending and torch._C._current_graph_task_id() == -1:
            self._pending.clear()
            self._group.end_pass()

    def reduce(self, context: Any, grads: Sequence[torch.Tensor | None]) -> list[Any]:
        """Deal with the gradients of one bucket's aliases.

        Args:
            context: the bucket's autograd context; ``context.parameters`` are the parameters.
            grads: this worker's part of each one's gradient, None where unused.

        Returns:
            What the engine should hand on to each parameter: its whole gradient, or None where
            it will be added to ``.grad`` at the end of the pass.
        """
        out: list[Any] = [None] * len(grads)
        later: list[int] = []
        for k, grad in enumerate(grads):
            if grad is None:
                continue
            fate = _fate(context.parameters[k], context.next_functions[k][0], grad)
            if fate == "later":
                later.append(k)
            elif fate == "now":
                out[k] = SumOut.apply(self._group, grad)
            elif fate == "sparse":
                out[k] = self._sum_sparse(grad)
        if later:
            self._post([context.parameters[k] for k in later], [grads[k] for k in later])
        return out

    def _post(self, parameters: list[torch.Tensor], grads: list[Any]) -> None:
        task = torch._C._current_graph_task_id()
        if task not in self._pending:
            self._pending[task] = []
            Variable._execution_engine.queue_callback(lambda: self._finish(task))
        self._pending[task].append(_Pending(self._group.post(grads), parameters))

    @torch.no_grad()
    def _finish(self, task: int) -> None:
        """Add the sums to ``.grad``; runs at the end of the backward pass."""
        began = self._group.own_time()
        pending = self._pending.pop(task)
        self.latest_bytes = sum(p.bucket.length * p.bucket.dtype.itemsize for p in pending)
        sums = self._group.collect([p.bucket for p in pending])
        if not self._pending:
            self._group.end_pass()
        into: list[torch.Tensor] = []
        added: list[torch.Tensor] = []
        for item, grads in zip(pending, sums, strict=True):
            for parameter, on_host in zip(item.parameters, grads, strict=True):
                grad = on_host.to(parameter.device)
                if parameter.grad is None:
                    parameter.grad = grad
                else:
                    into.append(parameter.grad)
                    added.append(grad)
        if into:
            torch._foreach_add_(into, added)
        self._group.note_overhead(self._group.own_time() - began)

    def _sum_sparse(self, grad: torch.Tensor) -> torch.Tensor:
        """Sum sparse gradients by joining everybody's entries: the result stays sparse."""
        entries = grad.coalesce()
        indices, values = entries.indices(), entries.values()
        count = torch.tensor([indices.shape[1]])
        counts = self._group.gather("sparse counts", [count], [[1] * self._group.workers], [0])[0]
        sizes = [int(c) for c in counts]
        joined = self._group.gather("sparse", [indices, values], [sizes, sizes], [1, 0])
        return torch.sparse_coo_tensor(joined[0], joined[1], grad.shape, check_invariants=False)


def stray_leaves(output: Any) -> list[torch.Tensor]:
    """Leaves that a split call's outputs depend on other than through an alias or an input.

    Their gradients would be this worker's part and look like the whole: such a call must not be
    split.

    Args:
        output: what the call returned.
    """
    roots = [leaf.local if isinstance(leaf, BatchView) else leaf for leaf in leaves_of(output)]
    queue = [r.grad_fn for r in roots if isinstance(r, torch.Tensor) and r.grad_fn is not None]
    seen: set[Any] = set()
    stray = []
    while queue:
        node: Any = queue.pop()
        if node in seen or isinstance(node, _CROSSINGS):
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            stray.append(node.variable)
        queue += [following for following, _ in node.next_functions if following is not None]
    return stray


def _fate(parameter: torch.Tensor, node: Any, grad: torch.Tensor) -> str:
    """How a parameter's gradient is to be summed: later, now, sparse, or never (not wanted)."""
    if torch.is_grad_enabled():  # create_graph: the sum itself must be differentiable
        return "now"
    if grad.is_sparse:
        return "sparse"
    if not parameter.is_leaf or parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
        return "now"
    try:
        wanted = torch._C._will_engine_execute_node(node)
    except RuntimeError:  # under torch.autograd.grad, which takes the value from here
        return "now"
    return "later" if wanted else "never"


def _buckets(parameters: Sequence[torch.Tensor]) -> Iterable[list[int]]:
    """Group indices of parameters, last registered first, by dtype, device and size."""
    open_buckets: dict[tuple[torch.dtype, torch.device], tuple[list[int], int]] = {}
    for k in range(len(parameters) - 1, -1, -1):
        parameter = parameters[k]
        key = (parameter.dtype, parameter.device)
        bucket, filled = open_buckets.get(key, ([], 0))
        bucket.append(k)
        filled += parameter.numel() * parameter.element_size()
        if filled >= BUCKET_BYTES:
            yield bucket
            bucket, filled = [], 0
        open_buckets[key] = (bucket, filled)
    for bucket, _ in open_buckets.values():
        if bucket:
            yield bucket


class _Enter(Function):
    """Parameters of one bucket -> their aliases."""

    @staticmethod
    def forward(ctx: Any, reducer: Reducer, *parameters: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Alias each parameter: the same memory, our backward."""
        ctx.reducer, ctx.parameters = reducer, parameters
        ctx.set_materialize_grads(False)
        return tuple(p.detach() for p in parameters)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Sum over the workers."""
        return None, *ctx.reducer.reduce(ctx, grads)


# where the graph of a split call ends: behind these, gradients are summed or joined
_CROSSINGS = tuple(f._backward_cls for f in (_Enter, Narrow, Replicate))
