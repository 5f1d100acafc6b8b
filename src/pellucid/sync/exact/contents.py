"""What stands in a tensor, to be put back if a run of a module writes to it."""

from __future__ import annotations

import torch

__all__ = ["Contents"]


class Contents:
    """What stands in a tensor now.

    Args:
        tensor: the tensor.
        copied: whether to keep a copy; of one too large for that, only changes can be told.
    """

    def __init__(self, tensor: torch.Tensor, *, copied: bool = True) -> None:
        self.tensor = tensor
        self._memory = tensor.detach()
        self._version = _version(tensor)
        self._value = self._memory.clone() if copied else None
        self._sum = None if copied else _sum(self._memory)

    def is_kept(self) -> bool:
        """Whether it can be put back."""
        return self._value is not None

    def is_changed(self) -> bool:
        """Whether it was written to, or given other memory.

        What is written by way of ``.data`` does not count as a new version: then it is looked for.
        """
        if _version(self.tensor) != self._version or not self._has_its_memory():
            return True
        if not _can_be_read(self._memory):
            return False
        if self._value is None:
            return _sum(self._memory) != self._sum
        return not _is_same(self._memory, self._value)

    def put_back(self) -> None:
        """Write what stood there, if anything else was written."""
        if self._value is not None and self.is_changed():
            if not self._has_its_memory():
                self.tensor.data = self._memory
            self._memory.copy_(self._value)
            self._version = _version(self.tensor)

    def _has_its_memory(self) -> bool:
        """Whether the script has not set ``.data`` to another tensor."""
        if not _can_be_read(self._memory):
            return True
        return self.tensor.detach().is_set_to(self._memory)


def _version(tensor: torch.Tensor) -> int:
    """A number that grows when the tensor is written to; those of inference mode have none."""
    return 0 if tensor.is_inference() else tensor._version


def _can_be_read(memory: torch.Tensor) -> bool:
    return memory.layout is torch.strided and not memory.is_meta


def _sum(memory: torch.Tensor) -> float | None:
    """A sum that would hardly be the same of other numbers; None of what cannot be read."""
    if not _can_be_read(memory) or memory.is_complex():
        return None
    return float(memory.sum(dtype=torch.float64).nan_to_num())


def _is_same(now: torch.Tensor, then: torch.Tensor) -> bool:
    """Whether two tensors hold the same, also where they hold no number."""
    if torch.equal(now, then):
        return True
    return bool(((now == then) | (now.isnan() & then.isnan())).all())
