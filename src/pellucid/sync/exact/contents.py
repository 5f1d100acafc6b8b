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
        self._version = _version(tensor)
        self._value = tensor.detach().clone() if copied else None

    def is_kept(self) -> bool:
        """Whether it can be put back."""
        return self._value is not None

    def is_changed(self) -> bool:
        """Whether it was written to."""
        return _version(self.tensor) != self._version

    def put_back(self) -> None:
        """Write what stood there, if anything else was written."""
        if self.is_changed() and self._value is not None:
            self.tensor.detach().copy_(self._value)
            self._version = _version(self.tensor)


def _version(tensor: torch.Tensor) -> int:
    """A number that grows when the tensor is written to; those of inference mode have none."""
    return 0 if tensor.is_inference() else tensor._version
