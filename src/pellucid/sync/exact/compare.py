"""Hold a split run of a module against the whole one."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, Final

import torch

from pellucid.sync.exact import kept
from pellucid.sync.exact.proof import COUNT, DRAWS, MIXES, SHAPES, Joint
from pellucid.sync.exact.region import Region
from pellucid.sync.exact.tree import outputs_of
from pellucid.sync.exact.trial import Trial
from pellucid.sync.exact.view import whole_of
from pellucid.sync.shared import generators

__all__ = ["FailedError", "compare", "noise_among"]

NOISE: Final = 64  # times the precision of numbers: what is smaller is rounding


class FailedError(Exception):
    """A trial did not agree with the whole."""


def noise_among(outputs: Sequence[Any], inputs: Sequence[Any]) -> list[bool]:
    """Which outputs are nothing but rounding, beside the largest numbers there are."""
    sizes = [_size_of(leaf) for leaf in outputs]
    scale = max([*sizes, *map(_size_of, inputs)], default=0.0)
    return [
        0 < size < NOISE * torch.finfo(leaf.dtype).eps * scale
        for size, leaf in zip(sizes, outputs, strict=True)
    ]


def _size_of(leaf: Any) -> float:
    """The largest number in an input or output, 0 of what are no real numbers."""
    plain = isinstance(leaf, torch.Tensor) and leaf.layout is torch.strided and not leaf.is_meta
    return _largest(whole_of(leaf)) if plain and leaf.is_floating_point() else 0.0


def _largest(tensor: torch.Tensor) -> float:
    """Of the finite numbers in it."""
    values = tensor.detach()  # a checkpoint around the call counts what is saved for backward
    finite = values[torch.isfinite(values)]
    return float(finite.abs().max()) if finite.numel() else 0.0


def compare(
    whole: Trial, trial: Trial, region: Region, noise: Collection[int] = ()
) -> tuple[Joint, ...]:
    """How the trial's outputs join into the whole's; those that are noise need not be alike.

    Raises:
        FailedError: they do not; its text says what differs, for the user.
    """
    if whole.printed != trial.printed:
        msg = "it prints something that depends on the size of its batch"
        raise FailedError(msg)
    mine, its = outputs_of(trial.output), outputs_of(whole.output)
    if len(mine) != len(its):
        msg = "the number of its outputs depends on the batch"
        raise FailedError(msg)
    joined = tuple(
        _compare_leaf(a, b, region, is_noise=k in noise)
        for k, (a, b) in enumerate(zip(mine, its, strict=True))
    )
    if not generators.same(whole.states, trial.states):
        raise FailedError(DRAWS)
    now, then = trial.parameters, whole.parameters
    if now.keys() != then.keys() or not all(_alike(now[k], then[k]) for k in now):
        msg = "it changes its parameters in forward, by what is in the whole batch"
        raise FailedError(msg)
    for a, b in zip(trial.buffers, whole.buffers, strict=True):
        if a.shape != b.shape or not _close(a, b):
            msg = "its buffers take values that depend on the whole batch"
            raise FailedError(msg)
    if len(trial.attributes) != len(whole.attributes) or trial.kept != whole.kept:
        msg = "what it keeps in its attributes depends on the whole batch"
        raise FailedError(msg)
    for has, had in zip(trial.attributes, whole.attributes, strict=True):
        # a tensor kept aside would carry this worker's part of a gradient into the script
        aside = kept.has_tensors(list(has.values()))
        if aside or has.keys() != had.keys() or any(not _alike(has[k], had[k]) for k in has):
            changed = ", ".join(sorted(has.keys() | had.keys()))
            msg = f"it keeps something of the batch in its attributes ({changed})"
            raise FailedError(msg)
    return joined


def _compare_leaf(mine: Any, whole: Any, region: Region, *, is_noise: bool) -> Joint:
    if not isinstance(whole, torch.Tensor):
        if type(whole) is int and (mine, whole) == (region.rows.local, region.rows.total):
            return COUNT
        if not _alike(mine, whole):
            msg = f"it returns a {type(whole).__name__} that depends on the whole batch"
            raise FailedError(msg)
        return None
    if not isinstance(mine, torch.Tensor) or mine.ndim != whole.ndim or mine.dtype != whole.dtype:
        msg = "the type of its outputs depends on the batch"
        raise FailedError(msg)
    differing = [d for d in range(whole.ndim) if mine.shape[d] != whole.shape[d]]
    if not differing:
        if not is_noise and not _close(mine, whole):
            raise FailedError(MIXES)
        return None
    dim = differing[0]
    divides = whole.shape[dim] % region.rows.total == 0
    if len(differing) > 1 or not divides or region.own(whole, dim).shape != mine.shape:
        raise FailedError(SHAPES)
    if not is_noise and not _close(mine, region.own(whole, dim)):
        raise FailedError(MIXES)
    return dim


_TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4, torch.complex128: 1e-9}


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal up to the order of summation."""
    if not (b.is_floating_point() or b.is_complex()):
        return torch.equal(a, b)
    if a.numel() == 0:
        return True
    tolerance = _TOLERANCE.get(b.dtype, 3e-2)
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance * _largest(b), equal_nan=True)


def _alike(a: Any, b: Any) -> bool:
    """Equal values that are not outputs' tensors: numbers, containers, attributes."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.shape == b.shape and _close(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return math.isclose(a, b, rel_tol=1e-9) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_alike(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_alike(x, y) for x, y in zip(a, b, strict=True))
    return _equal(a, b)


def _equal(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except Exception:  # what cannot be compared counts as different
        return False
