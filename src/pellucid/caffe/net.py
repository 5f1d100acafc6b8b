"""A Caffe net as a module: the *trunk*, and its losses and measures, the *head*.

[Note: trunk and head]
``pellucid run`` divides the batch at the outermost call of a module that has parameters, and makes
whole what comes out. So the trunk is one such module, and losses and measures, which see the whole
batch, are a module of their own, without parameters: any normalisation of a loss is right.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.caffe.data import DATA_TYPES, is_data
from pellucid.caffe.errors import CaffeError
from pellucid.caffe.layers import REGISTRY, Layer, Shape
from pellucid.caffe.proto import messages
from pellucid.caffe.select import select

__all__ = ["Head", "Net", "Outputs", "ParamInfo"]


@dataclass(frozen=True)
class ParamInfo:
    """One blob that the net learns, in Caffe's order.

    Attributes:
        name: its name for sharing, or ``layer.index``.
        module: the layer it belongs to.
        index: among the layer's blobs.
        lr_mult: times the solver's rate.
        decay_mult: times the solver's weight decay.
        owner: index of the blob whose values it shares, None if it has its own.
    """

    name: str
    module: Layer
    index: int
    lr_mult: float
    decay_mult: float
    owner: int | None

    @property
    def layer(self) -> str:
        """Name of the layer it belongs to."""
        return str(self.module.param.name)

    @property
    def parameter(self) -> Tensor:
        """The blob; a buffer where no gradient changes it (BatchNorm)."""
        return self.module.blobs()[self.index]


@dataclass(frozen=True)
class Outputs:
    """What a pass through a net gives.

    Attributes:
        loss: the weighted sum of the losses, a scalar.
        blobs: the net's outputs by name, in its order.
        weights: the loss weight of each, 0 where it is none.
    """

    loss: Tensor
    blobs: dict[str, Tensor]
    weights: dict[str, float]


class Net(nn.Module):
    """A net built of a NetParameter: called with the data's blobs, it gives what the head needs.

    Args:
        param: the net, of today's format.
        phase: TRAIN or TEST.
        level: for the rules of its layers.
        stages: for the rules of its layers.
        data_shapes: shapes of the tops of its data layers, by name.
        seed: of the fillers; random if None.
        dtype: of the blobs.

    Attributes:
        data_layers: its layers that read data, in order; they are not part of the module.
        head: its losses and measures.
        shapes: of all blobs.
        params: the learned blobs, in Caffe's order.
        hand_over: names of the trunk's blobs that the head needs, or that are outputs.

    Raises:
        CaffeError: the net cannot be built; names the layer and the remedy.
    """

    def __init__(  # noqa: PLR0913 - what NetState says, one by one
        self,
        param: Any,
        phase: str = "TRAIN",
        *,
        data_shapes: Mapping[str, Shape],
        level: int = 0,
        stages: tuple[str, ...] = (),
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.param = select(param, phase, level, stages)
        self.phase = phase
        self._generator = torch.Generator()
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)
        self.shapes: dict[str, Shape] = {}
        self._trunk_shapes: list[tuple[Layer, list[Shape], list[Shape]]] = []
        self.data_layers: list[Any] = []
        self.layers = nn.ModuleDict()
        heads: list[Layer] = []
        self._trunk: list[Layer] = []
        self._of_head: set[str] = set()
        self._used: set[str] = set()
        self._loss_weights: dict[str, float] = {}
        self.params: list[ParamInfo] = []
        names: set[str] = set()
        for layer in self.param.layer:
            if layer.name in names:
                msg = f"two layers are called {layer.name!r}: names must differ"
                raise CaffeError(msg, layer=layer.name)
            names.add(layer.name)
            if is_data(layer):
                self._add_data(layer, data_shapes)
            else:
                self._add(layer, heads)
        outputs = [name for name in self.shapes if name not in self._used]
        self.hand_over = self._crossing(heads, outputs)
        self.head = Head(heads, outputs, self._loss_weights)
        self._freeze()
        self.to(dtype)

    # building

    def _add_data(self, layer: Any, data_shapes: Mapping[str, Shape]) -> None:
        self.data_layers.append(layer)
        for top in layer.top:
            if top not in data_shapes:
                msg = (
                    f"layer {layer.name!r} ({layer.type}): the shape of its top {top!r} is unknown"
                )
                raise CaffeError(msg, layer=layer.name)
            self.shapes[top] = tuple(data_shapes[top])

    def _add(self, param: Any, heads: list[Layer]) -> None:
        kind = self._kind(param)
        bottoms = self._shapes_of_bottoms(param)
        with self._fitting(param, bottoms):
            layer = kind(param, bottoms, self.phase, self._generator)
            tops = self._infer(layer, bottoms)
        if len(tops) != len(param.top) and not (tops and not param.top):
            layer.refuse(f"it has {len(param.top)} tops and gives {len(tops)}")
        self._share(layer)
        weights = list(param.loss_weight) or [layer.loss_weight, *[0.0] * len(tops)][: len(tops)]
        if len(weights) != len(tops):
            layer.refuse(f"{len(weights)} loss weights for {len(tops)} tops")
        is_head = (
            layer.is_head or any(weights) or any(name in self._of_head for name in param.bottom)
        )
        self._used.update(param.bottom)
        for name, shape, weight in zip(param.top, tops, weights, strict=False):
            if name in self.shapes and name not in param.bottom:
                layer.refuse(f"its top {name!r} is already the top of a layer before it")
            self.shapes[name] = shape
            self._used.discard(name)
            self._loss_weights[name] = weight
            if is_head:
                self._of_head.add(name)
        if is_head:
            if layer.blobs():
                layer.refuse("it learns from a loss's output, which is not supported")
            heads.append(layer)
        else:
            self._trunk.append(layer)
            self._trunk_shapes.append((layer, bottoms, tops))
            self.layers[param.name.replace(".", "_")] = layer

    def _shapes_of_bottoms(self, param: Any) -> list[Shape]:
        for bottom in param.bottom:
            if bottom not in self.shapes:
                near = difflib.get_close_matches(bottom, self.shapes, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                msg = (
                    f"layer {param.name!r} ({param.type}): its bottom {bottom!r} is the top of no "
                    f"layer before it (a net must not be cyclic).{hint}"
                )
                raise CaffeError(msg, layer=param.name)
        if len(param.propagate_down) not in (0, len(param.bottom)):
            msg = (
                f"layer {param.name!r} ({param.type}): {len(param.propagate_down)} propagate_down "
                f"for {len(param.bottom)} bottoms"
            )
            raise CaffeError(msg, layer=param.name)
        return [self.shapes[name] for name in param.bottom]

    def _kind(self, param: Any) -> type[Layer]:
        if param.type in REGISTRY:
            return REGISTRY[param.type]
        known = sorted({*REGISTRY, *DATA_TYPES})
        near = difflib.get_close_matches(param.type, known, n=1)
        why = (
            f"unknown type. Did you mean {near[0]!r}?"
            if near
            else f"unknown type; known are {known}"
        )
        msg = f"layer {param.name!r} ({param.type}): {why}"
        raise CaffeError(msg, layer=param.name)

    @contextmanager
    def _fitting(self, param: Any, bottoms: list[Shape]) -> Iterator[None]:
        """What torch or arithmetic finds wrong inside is that numbers and shapes do not fit."""
        try:
            yield
        except (RuntimeError, ArithmeticError, LookupError, ValueError, TypeError) as error:
            why = (str(error).splitlines() or [""])[0]
            msg = (
                f"layer {param.name!r} ({param.type}): it does not fit bottoms of shapes "
                f"{bottoms}: {why}"
            )
            raise CaffeError(msg, layer=param.name) from error

    def _infer(self, layer: Layer, bottoms: list[Shape]) -> list[Shape]:
        """Shapes of a layer's tops: it is run without data."""
        blobs = {name: torch.empty_like(v, device="meta") for name, v in layer.state_dict().items()}
        buffers = {name: torch.empty_like(v, device="meta") for name, v in layer.named_buffers()}
        inputs = tuple(torch.empty(shape, device="meta") for shape in bottoms)
        with torch.no_grad():
            tops = torch.func.functional_call(layer, {**blobs, **buffers}, inputs)
        tops = tops if isinstance(tops, tuple) else (tops,)
        return [tuple(top.shape) for top in tops]

    def _share(self, layer: Layer) -> None:
        """Note a layer's blobs; where one has the name of one before, they become the same."""
        specs = layer.param.param
        blobs = layer.blobs()
        if len(specs) > len(blobs):
            layer.refuse(f"{len(specs)} param blocks for {len(blobs)} blobs")
        for index, blob in enumerate(blobs):
            spec = specs[index] if index < len(specs) else messages.ParamSpec()
            name = spec.name or f"{layer.param.name}.{index}"
            owner = next((k for k, p in enumerate(self.params) if p.name == name), None)
            lr_mult, decay_mult = spec.lr_mult, spec.decay_mult
            if not isinstance(blob, nn.Parameter):
                lr_mult = decay_mult = 0.0
            if owner is not None:
                theirs = self.params[owner].parameter
                permissive = spec.share_mode == 1 and theirs.numel() == blob.numel()
                if theirs.shape != blob.shape and not permissive:
                    layer.refuse(
                        f"blob {name!r} has shape {tuple(blob.shape)}, but that of layer "
                        f"{self.params[owner].layer!r} has {tuple(theirs.shape)}"
                    )
                if theirs.shape != blob.shape:
                    layer.refuse(
                        f"blob {name!r} of shape {tuple(blob.shape)} shares the values of one of "
                        f"shape {tuple(theirs.shape)} (share_mode PERMISSIVE), which is not "
                        "supported: put a Reshape before or behind"
                    )
                setattr(layer, f"blob{index}", theirs)
                for field in ("lr_mult", "decay_mult"):
                    given = spec.HasField(field)
                    if given and getattr(spec, field) != getattr(self.params[owner], field):
                        layer.refuse(f"blob {name!r} is shared with two values of {field}")
            self.params.append(ParamInfo(name, layer, index, lr_mult, decay_mult, owner))

    def _crossing(self, heads: Iterable[Layer], outputs: Iterable[str]) -> list[str]:
        """Blobs of the trunk that the head needs."""
        needed = {name for layer in heads for name in layer.param.bottom} | set(outputs)
        made = {name for layer in self._trunk for name in layer.param.top}
        return sorted(needed & made)

    def _freeze(self) -> None:
        """What has a rate of 0 needs no gradient."""
        for info in self.params:
            if isinstance(info.parameter, nn.Parameter) and info.owner is None:
                info.parameter.requires_grad_(info.lr_mult != 0)

    # running

    @property
    def trunk_inputs(self) -> list[str]:
        """Names of the data's blobs that the trunk reads, in order."""
        data = [top for layer in self.data_layers for top in layer.top]
        return list(self.inputs(dict.fromkeys(data, torch.empty(0))))

    def trunk_shapes(self) -> list[tuple[Layer, list[Shape], list[Shape]]]:
        """The layers of the trunk, in order, with the shapes of their bottoms and tops."""
        return list(self._trunk_shapes)

    def inputs(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of the data's blobs that the trunk reads."""
        read = {name for layer in self._trunk for name in layer.param.bottom}
        return {name: blob for name, blob in data.items() if name in read}

    def forward(self, blobs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the trunk.

        Args:
            blobs: the data's blobs that it reads, see `inputs`.

        Returns:
            Its blobs that the head needs.
        """
        blobs = dict(blobs)
        for layer in self._trunk:
            tops = layer(*_bottoms(layer.param, blobs))
            tops = tops if isinstance(tops, tuple) else (tops,)
            blobs.update(zip(layer.param.top, tops, strict=False))
        return {name: blobs[name] for name in self.hand_over}

    def run(self, data: Mapping[str, Tensor]) -> Outputs:
        """Trunk and head on the blobs of all data layers."""
        outputs: Outputs = self.head({**data, **self(self.inputs(data))})
        return outputs

    # weights

    @property
    def parameter_count(self) -> int:
        """Learned values, shared ones counted once."""
        return sum(math.prod(p.parameter.shape) for p in self.params if p.owner is None)

    def layer_blobs(self) -> dict[str, list[Tensor]]:
        """The blobs of each layer that has some, by its name, in order."""
        return {layer.param.name: layer.blobs() for layer in self._trunk if layer.blobs()}

    def share_weights(self, other: Net) -> None:
        """Use another net's blobs in layers of the same name (test nets use the train net's).

        Raises:
            CaffeError: shapes differ.
        """
        theirs = {layer.param.name: layer for layer in other._trunk}
        for layer in self._trunk:
            source = theirs.get(layer.param.name)
            if source is None:
                continue
            for name, mine, its in zip(
                layer._blob_names, layer.blobs(), source.blobs(), strict=False
            ):
                if mine.shape != its.shape:
                    layer.refuse(
                        f"its blob of shape {tuple(mine.shape)} cannot share the training net's of "
                        f"shape {tuple(its.shape)}"
                    )
                setattr(layer, name, its)


def _bottoms(param: Any, blobs: Mapping[str, Tensor]) -> list[Tensor]:
    """A layer's bottoms, cut off from what made them where propagate_down says so."""
    found = [blobs[name] for name in param.bottom]
    if not param.propagate_down:
        return found
    down = param.propagate_down
    return [x if go else x.detach() for x, go in zip(found, down, strict=True)]


class Head(nn.Module):
    """The losses and measures of a net, on whole batches.

    Args:
        layers: in order.
        outputs: names of the net's outputs.
        weights: loss weights by name of the blob.

    Attributes:
        params: LayerParameters of the layers.
    """

    def __init__(self, layers: list[Layer], outputs: list[str], weights: dict[str, float]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.params = [layer.param for layer in layers]
        self._outputs = outputs
        self._weights = weights

    def forward(self, blobs: Mapping[str, Tensor]) -> Outputs:
        """Run them.

        Args:
            blobs: of the data and of the trunk.
        """
        known = dict(blobs)
        losses: list[Tensor] = []
        for module in self.layers:
            param: Any = module.param
            tops = module(*_bottoms(param, known))
            tops = tops if isinstance(tops, tuple) else (tops,)
            known.update(zip(param.top, tops, strict=False))
            names = list(param.top) or [""]
            weights = [self._weights.get(name, 0.0) for name in names]
            if not param.top:  # a loss nobody named counts all the same
                weights = list(param.loss_weight) or [1.0]
            for top, weight in zip(tops, weights, strict=False):
                if weight:
                    total = top.sum() if top.ndim else top
                    losses.append(total if weight == 1 else total * weight)
        loss = sum(losses[1:], losses[0]) if losses else torch.zeros(())
        shown = {name: known[name] for name in self._outputs if name in known}
        return Outputs(loss, shown, {name: self._weights.get(name, 0.0) for name in shown})
