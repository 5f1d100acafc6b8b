"""Losses and measures: they see whole batches, outside of what is split."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from pellucid.caffe.layers.layer import Layer, Shape, register
from pellucid.caffe.proto import blob_to_array, messages, read_binary

__all__: list[str] = []

# Caffe takes the logarithm of no less than this: the smallest normal float32
_TINY = 1.17549435e-38
_LOG_TINY = math.log(_TINY)
_FULL, _VALID, _BATCH, _NONE = range(4)
_NO_LABEL = -(2**31) - 1  # smaller than any that a file can name


class _Loss(Layer):
    is_head = True
    loss_weight = 1.0
    counts = (2, 2)

    def normalization(self, default: int) -> int:
        """How the sum is divided, of the new field or the old."""
        p = self.param.loss_param
        if p.HasField("normalization") or not p.HasField("normalize"):
            return p.normalization if p.HasField("normalization") else default
        return _VALID if p.normalize else _BATCH

    def same_count(self, bottoms: list[Shape]) -> None:
        """Refuse bottoms of different size."""
        if math.prod(bottoms[0]) != math.prod(bottoms[1]):
            self.refuse(f"its bottoms {bottoms[0]} and {bottoms[1]} must have the same size")


def _divide(total: Tensor, how: int, rows: int, places: int, valid: Tensor | int) -> Tensor:
    if how == _VALID:
        divisor = valid.clamp(min=1) if isinstance(valid, Tensor) else max(valid, 1)
        return total / divisor
    return total / max({_FULL: places, _BATCH: rows, _NONE: 1}[how], 1)


@register("SoftmaxWithLoss", "SoftmaxLoss")
class SoftmaxWithLoss(_Loss):
    """Cross entropy of a softmax; a second top shows the probabilities."""

    counts = (2, 3)

    def setup(self, bottoms: list[Shape]) -> None:
        """Check the labels' number."""
        self.dim = self.axis(self.param.softmax_param.axis, len(bottoms[0]))
        if len(bottoms) > 2:
            self.refuse("a third bottom with weights is not supported")
        places = math.prod(bottoms[0]) // bottoms[0][self.dim]
        if math.prod(bottoms[1]) != places:
            self.refuse(
                f"{places} predictions of {bottoms[0]} need as many labels, not {bottoms[1]}"
            )

    def forward(self, scores: Tensor, labels: Tensor) -> Any:
        """The loss."""
        p = self.param.loss_param
        flat = scores.movedim(self.dim, -1).reshape(-1, scores.shape[self.dim])
        labels = labels.long().flatten()
        ignored = p.ignore_label if p.HasField("ignore_label") else _NO_LABEL
        how = self.normalization(_VALID)
        if ignored == _NO_LABEL and how == _VALID:
            loss = F.cross_entropy(flat, labels)
        else:
            total = F.cross_entropy(flat, labels, reduction="sum", ignore_index=ignored)
            rows = math.prod(scores.shape[: self.dim])
            loss = _divide(total, how, rows, labels.numel(), (labels != ignored).sum())
        return (loss, torch.softmax(scores, self.dim)) if len(self.param.top) > 1 else loss


@register("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(_Loss):
    """Cross entropy of independent yes-or-no answers."""

    def setup(self, bottoms: list[Shape]) -> None:
        """Check sizes."""
        self.same_count(bottoms)

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss."""
        p = self.param.loss_param
        targets = targets.reshape(scores.shape).to(scores.dtype)
        each = F.binary_cross_entropy_with_logits(scores, targets, reduction="none")
        valid: Tensor | int = each.numel()
        if p.HasField("ignore_label"):
            counted = targets != p.ignore_label
            valid, each = counted.sum(), each * counted
        how = self.normalization(_BATCH)
        return _divide(each.sum(), how, scores.shape[0], each.numel(), valid)


@register("EuclideanLoss")
class EuclideanLoss(_Loss):
    """Half the mean squared distance of rows."""

    def setup(self, bottoms: list[Shape]) -> None:
        """Check sizes."""
        self.same_count(bottoms)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The loss."""
        return (a - b.reshape(a.shape)).square().sum() / (2 * a.shape[0])


@register("HingeLoss")
class HingeLoss(_Loss):
    """One against all, with a margin of one; L1 or squared."""

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The loss."""
        scores = scores.flatten(1)
        sign = 1 - 2 * F.one_hot(labels.long().flatten(), scores.shape[1]).to(scores.dtype)
        margins = (1 + sign * scores).clamp(min=0)
        squared = self.param.hinge_loss_param.norm == 2
        return (margins.square() if squared else margins).sum() / scores.shape[0]


@register("ContrastiveLoss")
class ContrastiveLoss(_Loss):
    """Pairs: similar ones close, others at a distance (Hadsell et al. 2006)."""

    counts = (3, 3)

    def forward(self, a: Tensor, b: Tensor, similar: Tensor) -> Tensor:
        """The loss."""
        p = self.param.contrastive_loss_param
        square = (a - b).flatten(1).square().sum(1)
        if p.legacy_version:
            apart = (p.margin - square).clamp(min=0)
        else:
            # at distance 0 Caffe's gradient is 0: the small number keeps the root's finite
            apart = (p.margin - (square + 1e-24).sqrt()).clamp(min=0).square()
        alike = similar.flatten().to(a.dtype)
        total = torch.sum(alike * square + (1 - alike) * apart)
        return total.div(2 * a.shape[0])


@register("MultinomialLogisticLoss")
class MultinomialLogisticLoss(_Loss):
    """Cross entropy of given probabilities."""

    def forward(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        """The loss."""
        flat = probabilities.flatten(1)
        picked = flat.gather(1, labels.long().reshape(-1, 1))
        return -picked.clamp(min=1e-20).log().sum() / flat.shape[0]


@register("InfogainLoss")
class InfogainLoss(_Loss):
    """Cross entropy of a softmax with a matrix of what each answer is worth."""

    counts = (2, 3)

    def setup(self, bottoms: list[Shape]) -> None:
        """Read the matrix."""
        p = self.param.infogain_loss_param
        self.dim = self.axis(p.axis, len(bottoms[0]))
        classes = bottoms[0][self.dim]
        if len(bottoms) == 3:
            size = math.prod(bottoms[2])
        elif p.source:
            matrix = blob_to_array(read_binary(p.source, messages.BlobProto), p.source)
            self.register_buffer("matrix", torch.from_numpy(matrix), persistent=False)
            size = matrix.size
        else:
            self.refuse("it needs a matrix: infogain_loss_param.source or a third bottom")
        if size != classes**2:
            self.refuse(f"its matrix has {size} values, not {classes} x {classes}")

    def forward(self, scores: Tensor, labels: Tensor, *given: Tensor) -> Tensor:
        """The loss."""
        classes = scores.shape[self.dim]
        matrix: Tensor = given[0] if given else self.matrix  # type: ignore[assignment]
        matrix = matrix.reshape(classes, classes).to(scores.dtype)
        logs = torch.log_softmax(scores, self.dim).clamp(min=_LOG_TINY).movedim(self.dim, -1)
        logs = logs.reshape(-1, classes)
        labels = labels.long().flatten()
        p = self.param.loss_param
        valid: Tensor | int = labels.numel()
        weights = matrix[labels.clamp(0, classes - 1)]
        if p.HasField("ignore_label"):
            counted = labels != p.ignore_label
            valid, weights = counted.sum(), weights * counted[:, None]
        rows = math.prod(scores.shape[: self.dim])
        total = -(weights * logs).sum()
        return _divide(total, self.normalization(_VALID), rows, labels.numel(), valid)


@register("Accuracy")
class Accuracy(Layer):
    """How often the label is among the k best scores; a second top says it for each class."""

    is_head = True
    counts = (2, 2)

    def setup(self, bottoms: list[Shape]) -> None:
        """Find the axis."""
        p = self.param.accuracy_param
        self.dim = self.axis(p.axis, len(bottoms[0]))
        places = math.prod(bottoms[0]) // bottoms[0][self.dim]
        if math.prod(bottoms[1]) != places:
            self.refuse(
                f"{places} predictions of {bottoms[0]} need as many labels, not {bottoms[1]}"
            )
        if p.top_k > bottoms[0][self.dim]:
            self.refuse(f"top_k {p.top_k} of only {bottoms[0][self.dim]} classes")

    @torch.no_grad()
    def forward(self, scores: Tensor, labels: Tensor) -> Any:
        """The share of right answers."""
        p = self.param.accuracy_param
        flat = scores.movedim(self.dim, -1).reshape(-1, scores.shape[self.dim])
        labels = labels.long().flatten()
        ignored = p.HasField("ignore_label")
        counted = labels != p.ignore_label if ignored else torch.ones_like(labels, dtype=torch.bool)
        safe = labels.where(counted, torch.zeros_like(labels))
        # equal scores count as better: a net that says the same of all is not right by chance
        better = (flat >= flat.gather(1, safe[:, None])).sum(1) - 1
        right = ((better < p.top_k) & counted).to(scores.dtype)
        share = right.sum() / counted.sum().clamp(min=1)
        if len(self.param.top) == 1:
            return share
        classes = F.one_hot(safe, flat.shape[1]).to(scores.dtype) * counted[:, None]
        return share, (classes * right[:, None]).sum(0) / classes.sum(0).clamp(min=1)
