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

[Note: ties]
Where a module goes by what is in its rows, as a mixture of experts does, one worker's graph may
lack what another's has, and what they exchange on the way back would be of different parameters.
So each output of a split call is *tied* to what entered it: backward comes by all buckets of a
module, on all workers, whether their aliases were used or not. And each bucket is tied to the next
one, so that it does so in the same order. A bucket tells which of its gradients there are.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from torch.autograd import Function, Variable

from pellucid.errors import DivergenceError
from pellucid.sync.exact.region import Narrow, Replicate, SumOut
from pellucid.sync.shared.parts import modules_of
from pellucid.transport.shared_memory import Bucket, Group

__all__ = ["ENTERING", "Aliases", "Reducer"]

BUCKET_BYTES: Final = 8 << 20
# what is kept also keeps the memory of weights that the script has moved elsewhere
KEPT_BYTES: Final = 64 << 20
# the engine runs the node with the highest number first of those that are ready; made before what
# the forward makes, ours would have the lowest, and all buckets would leave at the end
FIRST: Final = 2**63
# what a gradient counts that is not there, is there, is there and sparse: added up over workers
ABSENT, DENSE, SPARSE = 0, 1, 1024
NUMBERS: Final = 32  # of buckets, to tell them apart
KEPT_TOLD: Final = 256  # tensors of what buckets tell


@dataclass
class _Pending:
    bucket: Bucket
    number: int
    parameters: list[torch.Tensor]
    sparse: dict[int, torch.Tensor]  # this worker's, by place


@dataclass
class Aliases:
    """The aliases of a module's parameters.

    Attributes:
        parameters: the parameters.
        aliases: their aliases, in the same order.
        tie: leads to all buckets, see [Note: ties].
    """

    parameters: Sequence[torch.Tensor]
    aliases: Sequence[torch.Tensor]
    tie: torch.Tensor | None

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
        self._kept: weakref.WeakKeyDictionary[nn.Module, dict[bool, Aliases]] = (
            weakref.WeakKeyDictionary()
        )
        self._number = 0  # of the latest bucket
        self._told: dict[Any, torch.Tensor] = {}
        self.latest_bytes = 0  # of gradients, in the latest backward pass

    def enter(
        self, module: nn.Module, parameters: Sequence[torch.Tensor], *, again: bool = False
    ) -> Aliases:
        """The alias of each parameter that requires a gradient; see [Note: aliases].

        Args:
            module: whose parameters they are.
            parameters: distinct tensors that require gradients, in order of registration.
            again: part of a call is run again on its way back. Backward goes through that part
                alone, so that its buckets are not tied to each other.
        """
        kept = self._kept.setdefault(module, {})
        known = kept.get(again)
        if known is not None and known.are_of(parameters):
            return known
        kept.pop(again, None)
        aliases: list[Any] = [None] * len(parameters)
        tie: Any = None
        sparse = _may_be_sparse(module)
        for bucket in reversed(list(_buckets(parameters))):
            self._number = self._number % NUMBERS + 1
            kinds = [id(parameters[k]) in sparse for k in bucket]
            enter = (self, self._number, kinds, tie)
            entered = _Enter.apply(*enter, *(parameters[k] for k in bucket))
            entered[0].grad_fn._set_sequence_nr(FIRST)
            for k, alias in zip(bucket, entered, strict=True):
                aliases[k] = _looks_like(parameters[k], alias)
            tie = None if again else entered[0]
        made = Aliases(parameters, aliases, tie)
        if all(type(p) is nn.Parameter and p.layout is torch.strided for p in parameters):
            size = sum(p.numel() * p.element_size() for p in parameters)
            if size <= KEPT_BYTES:
                kept[again] = made
        return made

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
        parameters = context.parameters
        nodes = context.next_functions[-len(parameters) :]  # the first may be of the tie
        fates = [
            _fate(parameter, node, sparse=sparse)
            for parameter, (node, _), sparse in zip(parameters, nodes, context.sparse, strict=True)
        ]
        out: list[Any] = [None] * len(grads)
        if now := [k for k, fate in enumerate(fates) if fate == "now"]:
            sums = self._sum([parameters[k] for k in now], [grads[k] for k in now])
            for k, total in zip(now, sums, strict=True):
                out[k] = total
        if later := [k for k, fate in enumerate(fates) if fate == "later"]:
            self._post(context, [parameters[k] for k in later], [grads[k] for k in later])
        return out

    def _sum(self, parameters: list[torch.Tensor], grads: list[Any]) -> list[Any]:
        """Everybody's gradients added up at once; None where nobody has one."""
        mine = torch.tensor([_kind(grad) for grad in grads])
        kinds = self._group.all_reduce("gradients there are", mine).tolist()
        sums: list[Any] = []
        for parameter, grad, kind in zip(parameters, grads, kinds, strict=True):
            if kind == ABSENT:
                sums.append(None)
            elif kind >= SPARSE:
                sums.append(self._sum_sparse(parameter, grad))
            else:
                given = torch.zeros_like(parameter) if grad is None else grad
                sums.append(SumOut.apply(self._group, given))
        return sums

    def _post(self, context: Any, parameters: list[torch.Tensor], grads: list[Any]) -> None:
        task = torch._C._current_graph_task_id()
        if task not in self._pending:
            self._pending[task] = []
            Variable._execution_engine.queue_callback(lambda: self._finish(task))
        kinds = [_kind(grad) for grad in grads]
        empty = not any(kinds)
        values = parameters
        if not empty:
            values = [
                grad if kind == DENSE else torch.zeros_like(parameter)
                for parameter, grad, kind in zip(parameters, grads, kinds, strict=True)
            ]
        told = self._tell((*kinds, 1, context.number), values[0].dtype, values[0].device)
        bucket = self._group.post([*values, told], empty=empty)
        sparse = {k: grad for k, grad in enumerate(grads) if kinds[k] == SPARSE}
        self._pending[task].append(_Pending(bucket, context.number, parameters, sparse))

    def _tell(
        self, kinds: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        """What there is in a bucket, to travel with it; mostly the same as the last time."""
        told = self._told.get((kinds, dtype, device))
        if told is None:
            if len(self._told) >= KEPT_TOLD:
                self._told.clear()
            told = torch.tensor(kinds, dtype=dtype, device=device)
            self._told[kinds, dtype, device] = told
        return told

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
        for item, (*grads, told) in zip(pending, sums, strict=True):
            kinds = _told(told, item.number)
            for k, (parameter, on_host) in enumerate(zip(item.parameters, grads, strict=True)):
                if kinds[k] < DENSE:
                    continue
                if kinds[k] >= SPARSE:
                    _add_to(parameter, self._sum_sparse(parameter, item.sparse.get(k)))
                    continue
                grad = on_host.to(parameter.device)
                if parameter.grad is None:
                    parameter.grad = grad
                else:
                    into.append(parameter.grad)
                    added.append(grad)
        if into:
            torch._foreach_add_(into, added)
        self._group.note_overhead(self._group.own_time() - began)

    def _sum_sparse(self, parameter: torch.Tensor, grad: torch.Tensor | None) -> torch.Tensor:
        """Sum sparse gradients by joining everybody's entries: the result stays sparse."""
        entries = _no_entries(parameter) if grad is None else grad
        # as many as a single process has, which has them in the order of rows, too
        indices, values = entries._indices(), entries._values()
        count = torch.tensor([indices.shape[1]])
        counts = self._group.gather("sparse counts", [count], [[1] * self._group.workers], [0])[0]
        sizes = [int(c) for c in counts]
        joined = self._group.gather("sparse", [indices, values], [sizes, sizes], [1, 0])
        return torch.sparse_coo_tensor(joined[0], joined[1], entries.shape, check_invariants=False)


def _looks_like(parameter: torch.Tensor, alias: torch.Tensor) -> torch.Tensor:
    """The alias, which forward is to take for the parameter: with what scripts attach to those."""
    if type(parameter) is nn.Parameter:
        alias.__class__ = nn.Parameter  # as lazy modules do it
        alias.__dict__ = parameter.__dict__
    return alias


def _kind(grad: torch.Tensor | None) -> int:
    return ABSENT if grad is None else SPARSE if grad.is_sparse else DENSE


def _told(kinds: torch.Tensor, number: int) -> list[float]:
    """What all workers told of a bucket's gradients, added up."""
    *told, workers, numbers = kinds.abs().tolist()
    if kinds.dtype in (torch.float32, torch.float64) and numbers != workers * number:
        msg = (
            "the workers go backward through different modules, or in another order: each takes "
            "its own path by what is in its rows. Make the order of modules the same for all rows"
        )
        raise DivergenceError(msg)
    return told


def _may_be_sparse(module: nn.Module) -> set[int]:
    """Identities of parameters that a module says have sparse gradients."""
    return {
        id(parameter)
        for part in modules_of(module)
        if getattr(part, "sparse", False) is True
        for parameter in part._parameters.values()
    }


def _no_entries(parameter: torch.Tensor) -> torch.Tensor:
    """The sparse gradient of an embedding of which nothing was looked up."""
    indices = torch.zeros(1, 0, dtype=torch.int64, device=parameter.device)
    values = parameter.detach().new_zeros(0, *parameter.shape[1:])
    return torch.sparse_coo_tensor(indices, values, parameter.shape, is_coalesced=True)


def _add_to(parameter: torch.Tensor, grad: torch.Tensor) -> None:
    """Add a sparse gradient to what there is."""
    parameter.grad = grad if parameter.grad is None else parameter.grad + grad


def _fate(parameter: torch.Tensor, node: Any, *, sparse: bool) -> str:
    """How a parameter's gradient is to be summed: later, now, or never (not wanted).

    The answer must be the same on all workers, whether they have one or not.
    """
    if torch.is_grad_enabled():  # create_graph: the sum itself must be differentiable
        return "now"
    if (
        sparse
        or not parameter.is_leaf
        or parameter._backward_hooks
        or parameter._post_accumulate_grad_hooks
    ):
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
    def forward(
        ctx: Any,
        reducer: Reducer,
        number: int,
        sparse: Sequence[bool],
        _: torch.Tensor | None,  # the tie, which is there for its graph
        *parameters: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Alias each parameter: the same memory, our backward."""
        ctx.reducer, ctx.parameters = reducer, parameters
        ctx.number, ctx.sparse = number, sparse
        ctx.set_materialize_grads(False)
        return tuple(p.detach() for p in parameters)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Sum over the workers."""
        return None, None, None, None, *ctx.reducer.reduce(ctx, grads)


# where the graph of a split call ends: behind these, gradients are summed or joined
ENTERING: Final = (_Enter, Narrow, Replicate)
