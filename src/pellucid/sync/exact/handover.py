"""One worker's batch, handed to all: small tensors whole, of large ones to each worker its rows.

The batch is pickled without its tensors. Their memory travels beside it, as it is, so that shapes,
strides and bits are the same everywhere; what does not fit the same exchange follows in pieces,
in the order in which the batch is put together. Everybody puts it together from the pickled form,
also the worker that had it: so all get the same.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, Final

import torch

from pellucid.sync.exact.drawn import DISPUTE
from pellucid.sync.exact.rows import Rows, split_rows
from pellucid.sync.exact.view import BatchView
from pellucid.transport.memory import SLOT_BYTES
from pellucid.transport.shared_memory import Group

__all__ = ["HandoverError", "LostError", "TravelError", "hand_round"]

ROOM: Final = SLOT_BYTES - (64 << 10)  # for what an exchange carries, beside its head
EACH: Final = 128  # bytes that a part takes in the slot beside its own, at most


class HandoverError(Exception):
    """A batch could not be handed round; raised in all workers."""


class LostError(HandoverError):
    """The worker that had it is dead."""


class TravelError(HandoverError):
    """It cannot be sent from one process to another."""


def hand_round(group: Group, drawn: int, total: int | None, source: int, value: Any) -> Any:
    """Give everybody what one worker has. A collective operation.

    Args:
        group: the workers.
        drawn: a hash of what the sampler gave so far, the same in all workers.
        total: rows of a batch; those of its first tensor if None.
        source: the worker that has the value.
        value: what it has; of the others, nobody looks at it.

    Raises:
        HandoverError: it did not come.
    """
    began = group.own_time()
    parcel = _pack(value) if group.index == source else None
    parts = [] if parcel is None else [parcel.rest, *parcel.first]
    group.claim(drawn, DISPUTE)
    taken = group.swap("batch", parts)
    if source not in taken:
        raise LostError
    if not taken[source]:
        raise TravelError
    rest, *memories = taken[source]
    tensors = [] if parcel is None else parcel.tensors
    value = _Unpickler(group, source, total, memories, tensors, rest).load()
    group.note_overhead(group.own_time() - began)
    return value


class _Parcel:
    """What travels of a value.

    Attributes:
        rest: its pickled form without the tensors, as bytes.
        tensors: those that were left out.
        first: the memory of the first of them, as much as fits an exchange.
    """

    def __init__(self, rest: bytes, tensors: list[torch.Tensor]) -> None:
        self.rest = torch.frombuffer(bytearray(rest), dtype=torch.uint8)
        self.tensors = tensors
        self.first: list[torch.Tensor] = []
        room = ROOM - len(rest) - EACH
        for tensor in tensors:
            room -= tensor.numel() * tensor.element_size() + EACH
            if room < 0:
                break
            self.first.append(_memory_of(tensor))


def _pack(value: Any) -> _Parcel | None:
    """None if it cannot travel."""
    try:
        file = io.BytesIO()
        pickler = _Pickler(file)
        pickler.dump(value)
        if pickler.shares:  # what is written to one of them is seen in the other: torch keeps that
            file, pickler.tensors = io.BytesIO(), []
            torch.save(value, file)
    except Exception:  # a batch may hold anything, and say in its own way that it stays here
        return None
    rest = file.getvalue()
    return _Parcel(rest, pickler.tensors) if len(rest) + 2 * EACH < ROOM else None


class _Pickler(pickle.Pickler):
    """Leaves out tensors whose memory can travel by itself.

    Attributes:
        tensors: those left out.
        shares: whether some of the value's tensors share memory.
    """

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.tensors: list[torch.Tensor] = []
        self.shares = False
        self._places: dict[int, int] = {}  # of tensors left out, by their identity
        self._owners: dict[int, int] = {}  # the identity of the tensor that has a storage

    def persistent_id(self, obj: Any) -> Any:
        """What stands for a tensor in the pickled form."""
        if type(obj) is not torch.Tensor or not _is_plain(obj):
            return None
        storage = obj.untyped_storage()
        if storage.nbytes() and self._owners.setdefault(storage.data_ptr(), id(obj)) != id(obj):
            self.shares = True
        if not _is_dense(obj):
            return None
        place = self._places.setdefault(id(obj), len(self.tensors))
        if place == len(self.tensors):
            self.tensors.append(obj)
        return place, obj.dtype, tuple(obj.shape), obj.stride(), obj.is_pinned()


class _Unpickler(pickle.Unpickler):
    """Puts a value together; a collective operation where memory is still to come."""

    def __init__(
        self,
        group: Group,
        source: int,
        total: int | None,
        memories: list[torch.Tensor],
        tensors: list[torch.Tensor],
        rest: torch.Tensor,
    ) -> None:
        data = rest.numpy().tobytes()
        super().__init__(io.BytesIO(data))
        self._data = data
        self._group = group
        self._source = source
        self._total = total
        self._memories = memories  # of the first tensors
        self._tensors = tensors  # in the worker that had them, all
        self._put: dict[int, torch.Tensor] = {}

    def load(self) -> Any:
        """The value."""
        if self._data.startswith(b"PK"):  # as torch saves it; a pickle begins with its protocol
            return torch.load(io.BytesIO(self._data), weights_only=False)
        return super().load()

    def persistent_load(self, pid: Any) -> torch.Tensor:
        """The tensor that was left out here, or a view of its rows."""
        place, dtype, shape, strides, pinned = pid
        if place not in self._put:
            self._put[place] = self._tensor(place, dtype, shape, strides, pinned)
        return self._put[place]

    def _tensor(
        self,
        place: int,
        dtype: torch.dtype,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        pinned: bool,
    ) -> torch.Tensor:
        size = _product(shape)
        rows = self._division(dtype, shape, strides, size)
        start, stop = (rows.start * strides[0], rows.stop * strides[0]) if rows else (0, size)
        memory = self._memory(place, dtype, size, start, stop)
        if rows:
            shape = (rows.local, *shape[1:])
        if memory is None:
            own = self._tensors[place]
            local = own[rows.start : rows.stop] if rows else own
        else:
            local = memory.as_strided(shape, strides)
            local = local.pin_memory() if pinned else local
        return BatchView(self._group, rows, local) if rows else local

    def _division(
        self, dtype: torch.dtype, shape: tuple[int, ...], strides: tuple[int, ...], size: int
    ) -> Rows | None:
        """How a tensor is divided, if it is large and has the batch's rows one behind the other."""
        if self._total is None and shape:
            self._total = shape[0]
        living = tuple(self._group.living)
        if not shape or shape[0] != self._total or shape[0] < len(living):
            return None
        rows = split_rows(shape[0], living, self._group.workers, self._group.index)
        large = rows.stay_split(size // shape[0] * dtype.itemsize)
        return rows if large and strides[0] * shape[0] == size and len(living) > 1 else None

    def _memory(
        self, place: int, dtype: torch.dtype, size: int, start: int, stop: int
    ) -> torch.Tensor | None:
        """A copy of a part of a tensor's memory; None in the worker that has the tensor."""
        mine = self._group.index == self._source
        if place < len(self._memories):
            return None if mine else self._memories[place].view(dtype)[start:stop].clone()
        memory = _memory_of(self._tensors[place]) if mine else None
        copied = torch.empty(0 if mine else stop - start, dtype=dtype)
        step = ROOM // dtype.itemsize
        for at in range(0, size, step):
            piece = [] if memory is None else [memory[at : at + step]]
            taken = self._group.swap("rest of a batch", piece)
            if self._source not in taken:
                raise LostError
            first, last = max(at, start), min(at + step, stop)
            if not mine and first < last:
                came = taken[self._source][0].view(dtype)[first - at : last - at]
                copied[first - start : last - start].copy_(came)
        return None if mine else copied


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is no more than values in this machine's memory."""
    return (
        tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and not (tensor.requires_grad or tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
        and not vars(tensor)
    )


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether a tensor's memory, from its first value to its last, holds nothing else."""
    if not tensor.numel():
        return tensor.is_contiguous()
    shape = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((n - 1) * stride for n, stride in shape) == tensor.numel()


def _memory_of(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_strided((tensor.numel(),), (1,))


def _product(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()
