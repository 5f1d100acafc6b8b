"""Each layer as code: how it is made, how it is called, and where its weights go.

In the code, ``{x}`` stands for the first bottom, ``{y}`` for the second, ``{all}`` for all of them,
and ``{self}`` for the module that the layer is, if it is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from pellucid.caffe.layers import Layer
from pellucid.caffe.layers.spatial import is_torchs

__all__ = ["HELPERS", "Blobs", "Piece", "piece"]

Shape = tuple[int, ...]
Blobs = dict[str, Callable[[list[Tensor]], Tensor]]


@dataclass(frozen=True)
class Piece:
    """A layer as code.

    Attributes:
        call: an expression; several tops are unpacked from it.
        module: an expression that makes the module it calls; empty if it needs none.
        weights: the module's tensors, made of the layer's blobs.
        blobs: the layer's blobs, made of the module's tensors by name: the way back.
        helper: a class or function of `HELPERS` that it uses.
    """

    call: str
    module: str = ""
    weights: Blobs = field(default_factory=dict)
    blobs: Callable[[dict[str, Tensor]], list[Tensor]] = lambda _: []
    helper: str = ""


_SCALE = '''class Scale(nn.Module):
    """A factor, an offset, or both, along some of the axes."""

    def __init__(self, *shape: int, weight: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape)) if weight else None
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.weight is None else x * self.weight
        return y if self.bias is None else y + self.bias
'''
_POOL = '''def pool2d(
    x: Tensor, method: str, kernel: tuple, stride: tuple, pad: tuple, out: tuple
) -> Tensor:
    """Pooling whose windows may begin inside of the image and end behind it, as in Caffe."""
    behind = [
        max((o - 1) * s + k - n - p, 0)
        for n, k, s, p, o in zip(x.shape[2:], kernel, stride, pad, out)
    ]
    around = (pad[1], behind[1], pad[0], behind[0])
    pool = F.max_pool2d if method == "max" else F.avg_pool2d
    y = pool(F.pad(x, around, value=-torch.inf if method == "max" else 0.0), kernel, stride)
    y = y[..., : out[0], : out[1]]
    if method == "mean":  # of places up to the end of the padding only
        ones = F.pad(x.new_ones(1, 1, *x.shape[2:]), (pad[1],) * 2 + (pad[0],) * 2, value=1.0)
        ones = F.pad(ones, (0, max(behind[1] - pad[1], 0), 0, max(behind[0] - pad[0], 0)))
        y = y / pool(ones, kernel, stride)[..., : out[0], : out[1]]
    return y
'''
HELPERS: Final = {"Scale": _SCALE, "pool2d": _POOL}


def piece(layer: Layer, bottoms: list[Shape], tops: list[Shape]) -> Piece:
    """A layer as code.

    Raises:
        CaffeError: its type, or what it asks for, is not among those that can be exported.
    """
    kind = layer.param.type
    if kind in _VALUES:
        return Piece(_VALUES[kind](layer.param))
    if kind not in _PIECES:
        known = ", ".join(sorted({*_VALUES, *_PIECES}))
        layer.refuse(f"this type cannot be exported yet; those that can are {known}")
    return _PIECES[kind](layer, bottoms, tops)


def _number(value: float) -> str:
    """A float32 in the shortest way that is the same number; files hold no more."""
    short = f"{value:.7g}"
    return short if "." in short or "e" in short else f"{short}.0"


def _affine(p: Any) -> str:
    """Code of shift + scale * x, without what changes nothing."""
    scaled = "{x}" if p.scale == 1 else f"{_number(p.scale)} * {{x}}"
    return scaled if p.shift == 0 else f"{_number(p.shift)} + {scaled}"


def _power(param: Any) -> str:
    p = param.power_param
    inner = _affine(p)
    return inner if p.power == 1 else f"({inner}) ** {_number(p.power)}"


def _exp(param: Any) -> str:
    p = param.exp_param
    inner = _affine(p)
    return f"torch.exp({inner})" if p.base == -1 else f"{_number(p.base)} ** ({inner})"


def _log(param: Any) -> str:
    p = param.log_param
    inner = f"torch.log({_affine(p)})"
    return inner if p.base == -1 else f"{inner} / {math.log(p.base):.9g}"


def _relu(param: Any) -> str:
    slope = param.relu_param.negative_slope
    return f"F.leaky_relu({{x}}, {_number(slope)})" if slope else "F.relu({x})"


# layers of single values: what they are depends on their parameters alone
_VALUES: Final[dict[str, Callable[[Any], str]]] = {
    "ReLU": _relu,
    "ELU": lambda p: f"F.elu({{x}}, {_number(p.elu_param.alpha)})",
    "Sigmoid": lambda _: "torch.sigmoid({x})",
    "TanH": lambda _: "torch.tanh({x})",
    "AbsVal": lambda _: "{x}.abs()",
    "BNLL": lambda _: "F.softplus({x}, threshold=50.0)",
    "Swish": lambda p: f"{{x}} * torch.sigmoid({_number(p.swish_param.beta)} * {{x}})",
    "Clip": lambda p: f"{{x}}.clamp({_number(p.clip_param.min)}, {_number(p.clip_param.max)})",
    "Threshold": lambda p: f"({{x}} > {_number(p.threshold_param.threshold)}).to({{x}}.dtype)",
    "Power": _power,
    "Exp": _exp,
    "Log": _log,
}


def _plain(*names: str) -> tuple[Blobs, Callable[[dict[str, Tensor]], list[Tensor]]]:
    """Blobs that are the module's tensors as they stand."""

    def take(k: int) -> Callable[[list[Tensor]], Tensor]:
        return lambda blobs: blobs[k]

    return {name: take(k) for k, name in enumerate(names)}, lambda state: [state[n] for n in names]


def _same(values: tuple[int, ...]) -> str:
    """One number where all are equal."""
    return str(values[0]) if len(set(values)) == 1 else str(tuple(values))


def _convolution(layer: Any, bottoms: list[Shape], _tops: list[Shape]) -> Piece:
    p, dims = layer.param.convolution_param, len(bottoms[0]) - 2
    if len(bottoms) > 1:
        layer.refuse("several bottoms cannot be exported: give each its own layer")
    spread = "Transpose" if layer.param.type == "Deconvolution" else ""
    kernel = tuple(layer.blobs()[0].shape[2:])
    more = [
        f"{name}={_same(values)}"
        for name, values, neutral in (
            ("stride", layer.stride, 1),
            ("padding", layer.pad, 0),
            ("dilation", layer.dilation, 1),
        )
        if set(values) != {neutral}
    ]
    more += [f"groups={p.group}"] * (p.group > 1) + ["bias=False"] * (not p.bias_term)
    arguments = ", ".join([str(bottoms[0][1]), str(p.num_output), _same(kernel), *more])
    names = ("weight", "bias") if p.bias_term else ("weight",)
    return Piece("{self}({x})", f"nn.Conv{spread}{dims}d({arguments})", *_plain(*names))


def _inner_product(layer: Any, bottoms: list[Shape], _tops: list[Shape]) -> Piece:
    p = layer.param.inner_product_param
    inputs = math.prod(bottoms[0][layer.first :])
    flat = "{x}" if layer.first == len(bottoms[0]) - 1 else f"{{x}}.flatten({layer.first})"
    bias = "" if p.bias_term else ", bias=False"
    weights, blobs = _plain(*(("weight", "bias") if p.bias_term else ("weight",)))
    if p.transpose:
        weights = {**weights, "weight": lambda b: b[0].t().contiguous()}
        straight = blobs

        def blobs(state: dict[str, Tensor]) -> list[Tensor]:
            return straight({**state, "weight": state["weight"].t().contiguous()})

    return Piece(f"{{self}}({flat})", f"nn.Linear({inputs}, {p.num_output}{bias})", weights, blobs)


def _pooling(layer: Any, bottoms: list[Shape], tops: list[Shape]) -> Piece:
    size, out = tuple(bottoms[0][2:]), tuple(tops[0][2:])
    if layer.method == "STOCHASTIC":
        layer.refuse("stochastic pooling cannot be exported")
    name = {"MAX": "max", "AVE": "avg"}[layer.method]
    kernel, stride, pad = layer.kernel, layer.stride, layer.pad
    if kernel == size and out == (1, 1) and not any(pad):
        method = {"max": "amax", "avg": "mean"}[name]
        return Piece(f"{{x}}.{method}((2, 3), keepdim=True)")
    if not is_torchs(size, kernel, stride, pad, layer.ceil):
        method = {"max": "max", "avg": "mean"}[name]
        call = f'pool2d({{x}}, "{method}", {kernel}, {stride}, {pad}, {out})'
        return Piece(call, helper="pool2d")
    more = [f"padding={_same(pad)}"] if any(pad) else []
    floor = tuple(
        (n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, pad, strict=True)
    )
    more += ["ceil_mode=True"] * (floor != out)
    arguments = ", ".join(["{x}", _same(kernel), _same(stride), *more])
    return Piece(f"F.{name}_pool2d({arguments})")


def _lrn(layer: Any, _bottoms: list[Shape], _tops: list[Shape]) -> Piece:
    p = layer.param.lrn_param
    alpha, beta = _number(p.alpha), _number(p.beta)
    if p.norm_region == 0:
        numbers = f"{p.local_size}, alpha={alpha}, beta={beta}, k={_number(p.k)}"
        return Piece(f"F.local_response_norm({{x}}, {numbers})")
    mean = f"F.avg_pool2d({{x}} * {{x}}, {p.local_size}, 1, padding={p.local_size // 2})"
    return Piece(f"{{x}} * (1 + {alpha} * {mean}) ** -{beta}")


def _prelu(layer: Any, _bottoms: list[Shape], _tops: list[Shape]) -> Piece:
    (slopes,) = layer.blobs()
    shape = tuple(slopes.shape)
    return Piece(
        "{self}({x})",
        f"nn.PReLU({slopes.numel()})",
        {"weight": lambda b: b[0].reshape(-1)},
        lambda state: [state["weight"].reshape(shape)],
    )


def _batch_norm(layer: Any, bottoms: list[Shape], _tops: list[Shape]) -> Piece:
    p = layer.param.batch_norm_param
    dims = {2: 1, 3: 1, 4: 2, 5: 3}.get(len(bottoms[0]), 0)
    if not dims:
        layer.refuse(f"a blob of {len(bottoms[0])} dimensions cannot be exported")
    momentum = f"{1 - float(_number(p.moving_average_fraction)):.6g}"
    eps = "" if _number(p.eps) == "1e-05" else f"eps={_number(p.eps)}, "
    module = f"nn.BatchNorm{dims}d({bottoms[0][1]}, {eps}momentum={momentum}, affine=False)"

    def part(k: int) -> Callable[[list[Tensor]], Tensor]:
        return lambda b: b[k] / b[2] if b[2].item() else b[k]

    return Piece(
        "{self}({x})",
        module,
        {
            "running_mean": part(0),
            "running_var": part(1),
            "num_batches_tracked": lambda _: torch.zeros((), dtype=torch.long),
        },
        lambda s: [s["running_mean"], s["running_var"], s["running_mean"].new_ones(1)],
    )


def _scale(layer: Any, bottoms: list[Shape], _tops: list[Shape]) -> Piece:
    is_bias = layer.param.type == "Bias"
    if len(bottoms) > 1:
        if not is_bias and layer.param.scale_param.bias_term:
            layer.refuse("a second bottom and a bias cannot be exported together")
        behind = len(bottoms[0]) - layer.first - len(bottoms[1])
        other = "{y}" + "[..." + ", None" * behind + "]" if behind else "{y}"
        return Piece(f"{{x}} {'+' if is_bias else '*'} {other}")
    shape = tuple(layer.blobs()[0].shape)
    wide = (*shape, *(1,) * (len(bottoms[0]) - layer.first - len(shape)))
    names = ("bias",) if is_bias else ("weight", "bias")[: len(layer.blobs())]
    missing = [f"{name}=False" for name in ("weight", "bias") if name not in names]

    def take(k: int) -> Callable[[list[Tensor]], Tensor]:
        return lambda b: b[k].reshape(wide)

    return Piece(
        "{self}({x})",
        f"Scale({', '.join([*map(str, wide), *missing])})",
        {name: take(k) for k, name in enumerate(names)},
        lambda state: [state[name].reshape(shape) for name in names],
        helper="Scale",
    )


def _embed(layer: Any, _bottoms: list[Shape], _tops: list[Shape]) -> Piece:
    p = layer.param.embed_param
    if p.bias_term:
        layer.refuse("an embedding with a bias cannot be exported: add a Bias layer instead")
    module = f"nn.Embedding({p.input_dim}, {p.num_output})"
    return Piece("{self}({x}.long())", module, *_plain("weight"))


def _dropout(layer: Any, _bottoms: list[Shape], _tops: list[Shape]) -> Piece:
    return Piece("{self}({x})", f"nn.Dropout({_number(layer.param.dropout_param.dropout_ratio)})")


def _eltwise(layer: Any, bottoms: list[Shape], _tops: list[Shape]) -> Piece:
    p = layer.param.eltwise_param
    if p.operation == 2:
        call = "{0}"
        for k in range(1, len(bottoms)):
            call = f"torch.maximum({call}, {{{k}}})"
        return Piece(call)
    factors = list(p.coeff) if p.operation == 1 else []
    factors = factors or [1.0] * len(bottoms)
    terms = [f"{{{k}}}" if c == 1 else f"{_number(c)} * {{{k}}}" for k, c in enumerate(factors)]
    return Piece((" * " if p.operation == 0 else " + ").join(terms))


def _reshape(_layer: Any, bottoms: list[Shape], tops: list[Shape]) -> Piece:
    keeps = tops[0][:1] == bottoms[0][:1]
    sizes = ["{x}.shape[0]" if keeps else str(tops[0][0]), *map(str, tops[0][1:])]
    return Piece(f"{{x}}.reshape({', '.join(sizes)})")


def _crop(layer: Any, bottoms: list[Shape], _tops: list[Shape]) -> Piece:
    call = "{x}"
    for dim, offset in layer.cuts:
        call += f".narrow({dim}, {offset}, {bottoms[1][dim]})"
    return Piece(call)


def _reduction(layer: Any, _bottoms: list[Shape], _tops: list[Shape]) -> Piece:
    p = layer.param.reduction_param
    inner = {2: ".abs()", 3: ".square()"}.get(p.operation, "")
    method = "mean" if p.operation == 4 else "sum"
    factor = "" if p.coeff == 1 else f"{_number(p.coeff)} * "
    return Piece(f"{factor}{{x}}{inner}.flatten({layer.first}).{method}(-1)")


def _tile(layer: Any, bottoms: list[Shape], _tops: list[Shape]) -> Piece:
    times = [1] * len(bottoms[0])
    times[layer.dim] = layer.param.tile_param.tiles
    return Piece(f"{{x}}.repeat({', '.join(map(str, times))})")


def _split(_layer: Any, _bottoms: list[Shape], tops: list[Shape]) -> Piece:
    return Piece(", ".join(["{x}"] * len(tops)))


_PIECES: Final[dict[str, Callable[[Any, list[Shape], list[Shape]], Piece]]] = {
    "Convolution": _convolution,
    "Deconvolution": _convolution,
    "InnerProduct": _inner_product,
    "Pooling": _pooling,
    "LRN": _lrn,
    "PReLU": _prelu,
    "BatchNorm": _batch_norm,
    "Scale": _scale,
    "Bias": _scale,
    "Embed": _embed,
    "Dropout": _dropout,
    "Eltwise": _eltwise,
    "Reshape": _reshape,
    "Crop": _crop,
    "Reduction": _reduction,
    "Tile": _tile,
    "Split": _split,
    "Silence": lambda _l, _b, _t: Piece(""),
    "Softmax": lambda layer, _b, _t: Piece(f"torch.softmax({{x}}, {layer.dim})"),
    "Concat": lambda layer, _b, _t: Piece(f"torch.cat([{{all}}], {layer.dim})"),
    "Slice": lambda layer, _b, _t: Piece(f"{{x}}.split({layer.sizes}, {layer.dim})"),
    "Flatten": lambda layer, _b, _t: Piece(f"{{x}}.flatten{layer.dims}"),
}
