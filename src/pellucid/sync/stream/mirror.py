"""One flat array of the script's weights, as the node exchanges it: float32 in memory.

Most weights are that already, and the node works on the array itself. For all others (float64,
half precision, a GPU's) it works on a copy that follows the array: before a step's corrections
are applied the copy is brought up to date, afterwards what they changed is added to the array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Mirror"]

T = TypeVar("T")


class Mirror:
    """See the module.

    Args:
        array: flat, of a float dtype; the script trains on it.
    """

    def __init__(self, array: torch.Tensor) -> None:
        self._array = array
        self._direct = array.dtype == torch.float32 and array.device.type == "cpu"
        self.values: NDArray[np.float32] = (
            array.numpy() if self._direct else array.to("cpu", torch.float32).numpy().copy()
        )

    @torch.no_grad()
    def adopt(self) -> None:
        """The values are the cluster's now, and the array is to be, too."""
        if not self._direct:
            self._array.copy_(torch.from_numpy(self.values))

    @torch.no_grad()
    def follow(self) -> NDArray[np.float32]:
        """The array's values, as they are now."""
        if not self._direct:
            torch.from_numpy(self.values).copy_(self._array)
        return self.values

    @torch.no_grad()
    def correct(self, correct: Callable[[], T]) -> T:
        """Apply corrections.

        Args:
            correct: applies them to the values.

        Returns:
            What it returned.
        """
        if self._direct:
            return correct()
        now = torch.from_numpy(self.follow())
        before = now.clone()
        corrected = correct()
        self._array += (now - before).to(self._array)
        return corrected
