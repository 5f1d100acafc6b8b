"""Flat parameters: the script's own tensors, bound to places in flat arrays.

[Note: views]
A tensor is bound by ``tensor.data = view``: the object that the script, the module and the
optimizer hold stays the same one. Each view has a *storage of its own*, that covers exactly its
piece of the array. So all of torch that looks at storages sees an ordinary tensor: ``torch.save``
and pickle write the piece and nothing else, ``deepcopy`` makes independent memory of its size.
"""

from __future__ import annotations

import itertools
import mmap
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from pellucid.errors import LayoutError
from pellucid.params.layout import Kind, Layout, Piece, Spec, lay_out

__all__ = ["FlatParameters", "Holder", "Memory", "named_tensors", "private_memory", "views"]


class Holder:
    """Where the script holds a tensor; it does not keep the tensor alive.

    Args:
        names: of the tensor; more than one when it is tied.
        tensor: the tensor.
        kind: what is done with it.
        places: pairs (module, key) where it is looked up; empty if it is in no module.
    """

    def __init__(
        self,
        names: list[str],
        tensor: torch.Tensor,
        kind: Kind,
        places: Sequence[tuple[nn.Module, str]] = (),
    ) -> None:
        self.names = names
        self.kind = kind
        self._tensor = weakref.ref(tensor)
        self._places: list[tuple[weakref.ref[nn.Module], str]] = []
        for module, key in places:
            self.add(module, key)

    def add(self, module: nn.Module, key: str) -> None:
        """Another place where it is looked up."""
        self._places.append((weakref.ref(module), key))

    @property
    def tensor(self) -> torch.Tensor | None:
        """The tensor that was last found here; None when the script has dropped it."""
        return self._tensor()

    def look(self) -> torch.Tensor | None:
        """What is there now: the script may have replaced it."""
        for place, key in self._places:
            module = place()
            for owned in (module._parameters, module._buffers) if module is not None else ():
                if key in owned:  # a scripted module's knows no `get`
                    return owned[key]
        return self._tensor()

    def take(self, tensor: torch.Tensor) -> None:
        """The script holds this tensor here now."""
        self._tensor = weakref.ref(tensor)

    def spec(self) -> Spec:
        """How it is to be laid out.

        Raises:
            LayoutError: it cannot be.
        """
        t, name = self.tensor, self.names[0]
        assert t is not None  # whoever makes a layout holds the tensors
        if is_lazy(t):
            msg = f"{name} has no shape yet: run a first batch through the module before training"
            raise LayoutError(msg)
        if t.layout != torch.strided or not _is_dense(t):
            msg = (
                f"{name} of shape {tuple(t.shape)} is sparse or overlaps itself, so it cannot lie "
                f"in a flat array: make it a plain tensor (contiguous()), or use --mode exact"
            )
            raise LayoutError(msg)
        return Spec(
            tuple(self.names),
            tuple(t.shape),
            t.stride(),
            str(t.dtype).removeprefix("torch."),
            t.element_size(),
            self.kind,
            str(t.device),
        )


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether its elements fill a stretch of memory, each place once."""
    expected = 1
    for size, stride in sorted(zip(tensor.shape, tensor.stride(), strict=True), key=lambda p: p[1]):
        if size == 1:
            continue
        if size == 0:
            return True
        if stride != expected:
            return False
        expected *= size
    return True


def named_tensors(module: nn.Module, skip: Iterable[int] = ()) -> list[Holder]:
    """The parameters and buffers of a module, each once, tied ones under all their names.

    Args:
        module: where to look.
        skip: ids of tensors to leave out.
    """
    left_out = set(skip)
    found: dict[int, Holder] = {}
    for prefix, part in nn.Module.named_modules(module, remove_duplicate=False):
        for owner, is_buffer in ((part._parameters, False), (part._buffers, True)):
            for key, tensor in owner.items():
                if tensor is None or id(tensor) in left_out:
                    continue
                name = f"{prefix}.{key}" if prefix else key
                holder = found.get(id(tensor))
                if holder is None:
                    kind = _kind_of(tensor) if is_buffer else Kind.TRAINED
                    holder = found[id(tensor)] = Holder([], tensor, kind)
                holder.names.append(name)
                holder.add(part, key)
    return list(found.values())


def _kind_of(buffer: torch.Tensor) -> Kind:
    return Kind.AVERAGED if buffer.is_floating_point() or buffer.is_complex() else Kind.COUNTED


class Memory:
    """The flat arrays of one block, in some memory.

    Args:
        layout: the block's.
        arrays: one flat tensor of the layout's length and dtype for each of its arrays.
        views: one tensor for each piece, with a storage of its own; see [Note: views].
    """

    def __init__(
        self, layout: Layout, arrays: Sequence[torch.Tensor], views: Sequence[torch.Tensor]
    ) -> None:
        self.layout = layout
        self.arrays = list(arrays)
        self.views = list(views)


def views(layout: Layout, buffers: Sequence[Any], starts: Sequence[int]) -> Memory:
    """Arrays and views in memory that supports the buffer protocol.

    Args:
        layout: of the block.
        buffers: for each array, the memory it lies in.
        starts: for each array, the byte in its memory at which it begins.
    """
    arrays = [
        torch.frombuffer(buffer, dtype=getattr(torch, a.dtype), count=a.elements, offset=start)
        for a, buffer, start in zip(layout.arrays, buffers, starts, strict=True)
    ]
    pieces = [_view(p, buffers[p.array], starts[p.array]) for p in layout.pieces]
    return Memory(layout, arrays, pieces)


def _view(piece: Piece, buffer: Any, start: int) -> torch.Tensor:
    spec = piece.spec
    dtype = getattr(torch, spec.dtype)
    if not spec.elements:
        return torch.empty(spec.shape, dtype=dtype)
    offset = start + piece.offset * spec.itemsize
    flat = torch.frombuffer(buffer, dtype=dtype, count=spec.elements, offset=offset)
    return flat.as_strided(spec.shape, spec.stride)


def private_memory(layout: Layout) -> Memory:
    """Arrays of this process alone, on the devices that the layout names; all zeros."""
    if all(array.device == "cpu" for array in layout.arrays):
        # a process that the script forks has a copy, as of any memory
        buffers = [mmap.mmap(-1, a.nbytes, flags=mmap.MAP_PRIVATE) for a in layout.arrays]
        return views(layout, buffers, [0] * len(buffers))
    arrays = [
        torch.zeros(array.elements, dtype=getattr(torch, array.dtype), device=array.device)
        for array in layout.arrays
    ]
    memory = Memory(layout, arrays, [_own_storage(p, arrays[p.array]) for p in layout.pieces])
    _kept.append(memory)
    return memory


def _own_storage(piece: Piece, array: torch.Tensor) -> torch.Tensor:
    """A view of a tensor that has a storage of its own; the tensor must outlive it."""
    spec = piece.spec
    construct: Any = torch._C._construct_storage_from_data_pointer
    at = array.data_ptr() + piece.offset * spec.itemsize
    storage = construct(at, array.device, spec.elements * spec.itemsize)
    empty = torch.empty(0, dtype=array.dtype, device=array.device)
    return empty.set_(storage, 0, spec.shape, spec.stride)


# arrays whose views do not keep them alive: a script may keep a view for as long as it likes
_kept: list[Memory] = []


class FlatParameters:
    """The tensors of one block, bound to one memory at a time.

    Args:
        holders: where the script looks them up.
        layout: as of `lay_out` of their specs, unless it was made elsewhere.
    """

    def __init__(self, holders: Sequence[Holder], layout: Layout | None = None) -> None:
        self.holders = list(holders)
        self.layout = layout or lay_out([holder.spec() for holder in holders])
        self._refuse_overlaps()
        self.memory: Memory | None = None
        self._pointers: list[int] = []

    @property
    def alive(self) -> bool:
        """Whether the script still holds any of the tensors."""
        return any(holder.tensor is not None for holder in self.holders)

    def tensors(self) -> Iterator[torch.Tensor]:
        """The tensors that the script still holds, in the order of the layout's pieces."""
        return (t for holder in self.holders if (t := holder.tensor) is not None)

    @torch.no_grad()
    def bind(self, memory: Memory, *, keep: bool) -> None:
        """Make the tensors views of a memory.

        Args:
            memory: of this layout.
            keep: whether the tensors' values go into the memory; otherwise the memory's are
                the tensors' from now on.
        """
        for holder, view in zip(self.holders, memory.views, strict=True):
            tensor = holder.tensor
            if tensor is not None:
                if keep:
                    view.copy_(tensor)
                tensor.data = view
        self.memory = memory
        self._pointers = [view.data_ptr() for view in memory.views]

    def mend(self) -> None:
        """Bind again what the script has replaced since, with the new values.

        Raises:
            LayoutError: a replaced tensor has another shape or dtype.
        """
        for k, holder in enumerate(self.holders if self.memory else ()):
            tensor = holder.look()
            if tensor is None:
                continue
            if tensor is not holder.tensor or tensor.data_ptr() != self._pointers[k]:
                self._mend(k, tensor)

    @torch.no_grad()
    def _mend(self, k: int, tensor: torch.Tensor) -> None:
        assert self.memory is not None
        holder, view = self.holders[k], self.memory.views[k]
        if tensor.shape != view.shape or tensor.dtype != view.dtype:
            msg = (
                f"{holder.names[0]} was replaced by a tensor of shape {tuple(tensor.shape)} and "
                f"{tensor.dtype} where {tuple(view.shape)} and {view.dtype} are in use by all "
                f"workers: a model must keep its shapes once it is trained, or use --mode exact"
            )
            raise LayoutError(msg)
        view.copy_(tensor)
        tensor.data = view
        holder.take(tensor)

    def _refuse_overlaps(self) -> None:
        """Two tensors that share memory without being one would be torn apart unnoticed."""
        spans = sorted(
            (t.data_ptr(), t.data_ptr() + t.numel() * t.element_size(), holder.names[0])
            for holder in self.holders
            if (t := holder.tensor) is not None and t.numel()
        )
        for (_, end, name), (start, _, other) in itertools.pairwise(spans):
            if start < end:
                msg = (
                    f"{name} and {other} share memory without being the same tensor: tie them by "
                    f"assigning one parameter to both modules, or use --mode exact"
                )
                raise LayoutError(msg)
