"""Random numbers drawn inside a split call: the rows that the script alone would have drawn.

A single process draws a dropout mask, a noise tensor, for the whole batch. So do we, on every
worker, and each keeps its own rows: masks differ from row to row as they should, losses are those
of the script alone, and the script's generator ends where it would have ended. Drawing rows that
are not ours is the price; it is paid in the cheapest part of the work.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

from pellucid.sync.exact.region import Region, current

__all__ = ["SEAMS"]

Original = Callable[..., Any]


def _dropout(
    original: Original, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Any:
    """``torch.nn.functional.dropout``: a mask for the whole batch, of which we keep our rows."""
    region = current()
    if region is None or not training or not 0 < p < 1:
        return original(input, p, training, inplace)
    dim = region.batch_dim(input.shape)
    if dim is None:
        return original(input, p, training, inplace)
    return _masked(region, input, p, dim, inplace)


def _torch_dropout(original: Original, input: Any, p: float, train: bool) -> Any:
    """``torch.dropout``, which has no in-place form."""
    return _dropout(lambda *args: original(*args[:3]), input, p, train)


def _masked(region: Region, input: torch.Tensor, p: float, dim: int, inplace: bool) -> torch.Tensor:
    whole = region.empty_whole(input, dim)
    if input.is_cuda:  # the fused kernel there maps its generator to elements in its own way
        mask = region.own(torch.native_dropout(whole.fill_(1), p, True)[0], dim)
    else:
        mask = region.own(_BERNOULLI(whole, 1 - p), dim).div_(1 - p)
    return input.mul_(mask) if inplace else input * mask


def _widened(original: Original, input: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a random function of one batched tensor on a whole one that holds our rows."""
    region = current()
    if region is None or not isinstance(input, torch.Tensor):
        return original(input, *args, **kwargs)
    dim = region.batch_dim(input.shape)
    if dim is None:
        return original(input, *args, **kwargs)
    return region.own(original(_widen(region, input, dim), *args, **kwargs), dim)


def _widen(region: Region, local: torch.Tensor, dim: int) -> torch.Tensor:
    """A whole tensor with our rows in their place and, elsewhere, copies of our first row."""
    fold = local.shape[dim] // region.rows.local
    before = region.rows.start * fold
    after = (region.rows.total - region.rows.stop) * fold
    first = local.detach().narrow(dim, 0, 1)
    sizes = list(local.shape)
    pieces = []
    for count, piece in ((before, first), (None, local), (after, first)):
        if count is not None:
            sizes[dim] = count
            pieces.append(piece.expand(sizes))
        else:
            pieces.append(piece)
    return torch.cat(pieces, dim)


def _dropout_like(
    original: Original, input: Any, p: float = 0.5, training: Any = None, inplace: bool = False
) -> Any:
    """Dropouts of channels and of alpha type: rare enough to take the general way."""
    if training is None:  # not all of them train by default
        training = inspect.signature(original).parameters["training"].default
    if current() is None or not training:
        return original(input, p, training, inplace)
    return _widened(lambda whole: original(whole, p, training, False), input)


def _rrelu(original: Original, input: Any, *args: Any, **kwargs: Any) -> Any:
    return _widened(original, input, *args, **kwargs)


def _like(original: Original, input: Any, *args: Any, **kwargs: Any) -> Any:
    """``randn_like`` and its kin: drawn in the shape of the whole."""
    region = current()
    if region is None:
        return original(input, *args, **kwargs)
    dim = region.batch_dim(input.shape)
    if dim is None:
        return original(input, *args, **kwargs)
    return region.own(original(region.empty_whole(input, dim), *args, **kwargs), dim)


def _sized(original: Original, *size: Any, **kwargs: Any) -> Any:
    """``torch.randn(n, ...)`` and its kin, where the size counts rows."""
    region = current()
    if region is None:
        return original(*size, **kwargs)
    given = kwargs.get("size", size)
    lead: tuple[Any, ...] = ()
    if original is _ORIGINAL_RANDINT:  # randint(high, size) or randint(low, high, size)
        if "size" not in kwargs and not isinstance(size[-1], tuple | list):
            return original(*size, **kwargs)
        lead, given = (size, given) if "size" in kwargs else (size[:-1], size[-1])
    elif len(given) == 1 and isinstance(given[0], tuple | list | torch.Size):
        given = given[0]
    dim = region.batch_dim(tuple(given))
    if dim is None:
        return original(*size, **kwargs)
    shape = region.whole_shape(tuple(given), dim)
    kwargs.pop("size", None)
    return region.own(original(*lead, tuple(shape), **kwargs), dim)


def _normal(original: Original, mean: Any = 0.0, std: Any = 1.0, *args: Any, **kwargs: Any) -> Any:
    """``torch.normal``: of tensors of means and deviations, or of a size."""
    region = current()
    tensors = [v for v in (mean, std) if isinstance(v, torch.Tensor)]
    if region is None or not tensors:
        if region is not None and "size" in kwargs:
            size = kwargs.pop("size")
            return _sized(lambda s, **kw: original(mean, std, s, **kw), *size, **kwargs)
        return original(mean, std, *args, **kwargs)
    dim = region.batch_dim(tensors[0].shape)
    if dim is None:
        return original(mean, std, *args, **kwargs)
    wide = [_widen(region, v, dim) if isinstance(v, torch.Tensor) else v for v in (mean, std)]
    return region.own(original(*wide, *args, **kwargs), dim)


def _in_place(original: Original, self: Any, *args: Any, **kwargs: Any) -> Any:
    """``x.normal_()`` and its kin."""
    region = current()
    if region is None:
        return original(self, *args, **kwargs)
    dim = region.batch_dim(self.shape)
    if dim is None:
        return original(self, *args, **kwargs)
    if args and isinstance(args[0], torch.Tensor):  # bernoulli_(probabilities)
        args = (_widen(region, args[0].expand(self.shape), dim), *args[1:])
    whole = original(region.empty_whole(self, dim), *args, **kwargs)
    return self.copy_(region.own(whole, dim))


def _attention(  # noqa: PLR0913, PLR0917 - torch's own signature
    original: Original,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **kwargs: Any,
) -> Any:
    """Attention with dropout: composed, so that its mask is drawn as above."""
    if current() is None or not dropout_p or kwargs.get("enable_gqa"):
        return original(query, key, value, attn_mask, dropout_p, is_causal, **kwargs)
    scale = kwargs.get("scale") or query.shape[-1] ** -0.5
    scores = (query * scale**0.5) @ (key * scale**0.5).transpose(-2, -1)
    if is_causal:
        keep = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~keep, float("-inf"))
    elif attn_mask is not None:
        masked = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, float("-inf")) if masked else scores + attn_mask
    # as torch has it: a row that may look at nothing gets zeros
    return F.dropout(torch._safe_softmax(scores, -1), dropout_p) @ value


def _recurrent(original: Original, input: Any, hidden: Any, weights: Any, *rest: Any) -> Any:
    """LSTM, GRU and RNN with dropout between layers: one layer at a time, our dropout between."""
    if current() is None or len(rest) != 6 or not isinstance(rest[0], bool):
        return original(input, hidden, weights, *rest)
    biases, layers, dropout, training, bidirectional, batch_first = rest
    if not dropout or not training or layers < 2:
        return original(input, hidden, weights, *rest)
    several = isinstance(hidden, tuple | list)
    states = hidden if several else (hidden,)
    directions = 2 if bidirectional else 1
    each = len(weights) // layers
    output = input.transpose(0, 1) if batch_first else input
    ends: list[list[torch.Tensor]] = [[] for _ in states]
    for layer in range(layers):
        span = slice(layer * directions, (layer + 1) * directions)
        begin = tuple(s[span].contiguous() for s in states)
        own = weights[layer * each : (layer + 1) * each]
        output, *end = original(
            output,
            begin if several else begin[0],
            own,
            biases,
            1,
            0.0,
            training,
            bidirectional,
            False,
        )
        for kept, state in zip(ends, end, strict=True):
            kept.append(state)
        if layer < layers - 1:
            region = current()
            assert region is not None
            output = _masked(region, output, dropout, 1, False)
    joined = [torch.cat(kept) for kept in ends]
    return output.transpose(0, 1) if batch_first else output, *joined


# as they were before anything answered them
_BERNOULLI = torch.Tensor.bernoulli_
_ORIGINAL_RANDINT = torch.randint

_METHODS = ("normal_", "uniform_", "bernoulli_", "exponential_", "random_", "log_normal_")

# (owner, name, handler): handler(original, *args) answers owner.name(*args)
SEAMS: list[tuple[Any, str, Callable[..., Any]]] = [
    (F, "dropout", _dropout),
    (torch, "dropout", _torch_dropout),
    *((F, n, _dropout_like) for n in ("dropout1d", "dropout2d", "dropout3d")),
    *((F, n, _dropout_like) for n in ("alpha_dropout", "feature_alpha_dropout")),
    (F, "rrelu", _rrelu),
    (F, "scaled_dot_product_attention", _attention),
    *((torch, n, _like) for n in ("randn_like", "rand_like", "randint_like")),
    *((torch, n, _sized) for n in ("randn", "rand", "randint")),
    *((torch, n, _widened) for n in ("bernoulli", "multinomial")),
    (torch, "normal", _normal),
    *((torch.Tensor, n, _in_place) for n in (*_METHODS, "geometric_", "cauchy_")),
    *((torch.Tensor, n, _widened) for n in ("bernoulli", "multinomial")),
    *((torch._VF, n, _recurrent) for n in ("lstm", "gru", "rnn_tanh", "rnn_relu")),
]
