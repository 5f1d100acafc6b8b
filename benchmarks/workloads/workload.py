"""What there is to train: a net, its data, its loss and its optimizer, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from data import Pairs, digits, photos, text
from nets import LanguageModel, LeNet, Perceptron, ResNet18
from torch import Tensor, nn

__all__ = ["WORKLOADS"]


@dataclass(frozen=True)
class Workload:
    """One thing to train."""

    net: Callable[[], nn.Module]
    data: Callable[[str | None], Pairs]
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer]


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of every character of every window."""
    return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


def sgd(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)


def adamw(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3)


WORKLOADS = {
    "lenet": Workload(LeNet, digits, F.cross_entropy, sgd),
    "mlp": Workload(Perceptron, digits, F.cross_entropy, sgd),
    "resnet18": Workload(ResNet18, photos, F.cross_entropy, sgd),
    "transformer": Workload(LanguageModel, text, token_loss, adamw),
}
