"""Which layers of a net are in it for a phase, level and stages: Caffe's NetState rules."""

from __future__ import annotations

from typing import Any

from pellucid.caffe.errors import CaffeError
from pellucid.caffe.proto import messages

__all__ = ["select"]


def select(net: Any, phase: str, level: int = 0, stages: tuple[str, ...] = ()) -> Any:
    """The net with those layers only that take part in this state.

    A layer with ``include`` rules takes part if one of them is met, one with ``exclude`` rules if
    none is.

    Raises:
        CaffeError: a layer has rules of both kinds.
    """
    number = messages.Phase[phase]
    chosen = messages.NetParameter()
    chosen.CopyFrom(net)
    del chosen.layer[:]
    for layer in net.layer:
        if layer.include and layer.exclude:
            msg = f"layer {layer.name!r} has both include and exclude rules: keep one kind"
            raise CaffeError(msg, layer=layer.name)
        if layer.include:
            stays = any(_meets(rule, number, level, stages) for rule in layer.include)
        else:
            stays = not any(_meets(rule, number, level, stages) for rule in layer.exclude)
        if stays:
            chosen.layer.add().CopyFrom(layer)
    return chosen


def _meets(rule: Any, phase: int, level: int, stages: tuple[str, ...]) -> bool:
    return not (
        (rule.HasField("phase") and rule.phase != phase)
        or (rule.HasField("min_level") and level < rule.min_level)
        or (rule.HasField("max_level") and level > rule.max_level)
        or any(stage not in stages for stage in rule.stage)
        or any(stage in stages for stage in rule.not_stage)
    )
