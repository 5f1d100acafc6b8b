"""RNN and LSTM over sequences (T, N, ...), begun anew where the second bottom, (T, N), is 0."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from pellucid.caffe.layers.layer import Layer, Shape, register

__all__: list[str] = []


class _Recurrent(Layer):
    counts = (2, 5)
    gates = 1
    states = 1  # hidden state, and what else goes from step to step

    def setup(self, bottoms: list[Shape]) -> None:
        """Make the blobs: input weights, bias, hidden weights (and static input weights)."""
        p = self.param.recurrent_param
        if not p.num_output:
            self.refuse("it needs num_output")
        given = len(bottoms) - 2 - (self.states if p.expose_hidden else 0)
        if given not in (0, 1):
            self.refuse(
                f"it has {len(bottoms)} bottoms and takes the inputs, cont, perhaps a static input"
                + f", and {self.states} first states (expose_hidden)" * p.expose_hidden
            )
        self.has_static = given == 1
        wanted = (1, bottoms[0][1], p.num_output)
        for first in bottoms[2 + given :]:
            if tuple(first) != wanted:
                self.refuse(f"a first state has shape {first} and must have {wanted}")
        if bottoms[1] != bottoms[0][:2]:
            self.refuse(f"its second bottom {bottoms[1]} must be (T, N) of the first {bottoms[0]}")
        width = self.gates * p.num_output
        self.learn((width, math.prod(bottoms[0][2:])), p.weight_filler)
        self.learn((width,), p.bias_filler)
        if self.has_static:
            self.learn((width, math.prod(bottoms[2][1:])), p.weight_filler)
        self.learn((width, p.num_output), p.weight_filler)
        self.more()

    def more(self) -> None:
        """Further blobs."""

    def inputs(self, x: Tensor, rest: tuple[Tensor, ...]) -> Tensor:
        """What the inputs give to the gates at every step: (T, N, gates * outputs)."""
        given = F.linear(x.flatten(2), *self.blobs()[:2])
        if self.has_static:
            given = given + F.linear(rest[0].flatten(1), self.blobs()[2])
        return given

    def begin(self, x: Tensor, rest: tuple[Tensor, ...]) -> list[Tensor]:
        """The states before the first step, (N, outputs) each: given, or zeros."""
        p = self.param.recurrent_param
        if p.expose_hidden:
            return [state[0] for state in rest[-self.states :]]
        return [x.new_zeros(x.shape[1], p.num_output)] * self.states

    def tops(self, outs: list[Tensor], states: list[Tensor]) -> Any:
        """The outputs, (T, N, outputs), and the states after the last step if they are shown."""
        if not self.param.recurrent_param.expose_hidden:
            return torch.stack(outs)
        return (torch.stack(outs), *(state[None] for state in states))


@register("RNN")
class RNN(_Recurrent):
    """A plain recurrent net with an output layer, both with tanh."""

    def more(self) -> None:
        """Make output weights and bias."""
        p = self.param.recurrent_param
        self.learn((p.num_output, p.num_output), p.weight_filler)
        self.learn((p.num_output,), p.bias_filler)

    def forward(self, x: Tensor, cont: Tensor, *rest: Tensor) -> Any:
        """(T, N, ...) -> (T, N, outputs)."""
        given = self.inputs(x, rest)
        hidden_weight, out_weight, out_bias = self.blobs()[-3:]
        (hidden,) = self.begin(given, rest)
        outs = []
        for step, keep in zip(given, cont.to(given.dtype), strict=True):
            hidden = torch.tanh(step + F.linear(hidden * keep[:, None], hidden_weight))
            outs.append(torch.tanh(F.linear(hidden, out_weight, out_bias)))
        return self.tops(outs, [hidden])


@register("LSTM")
class LSTM(_Recurrent):
    """Long short-term memory; gates in the order input, forget, output, candidate."""

    gates = 4
    states = 2

    def forward(self, x: Tensor, cont: Tensor, *rest: Tensor) -> Any:
        """(T, N, ...) -> (T, N, outputs)."""
        given = self.inputs(x, rest)
        weight = self.blobs()[-1]
        hidden, cell = self.begin(given, rest)
        outs = []
        for step, keep in zip(given, cont.to(given.dtype), strict=True):
            gates = step + F.linear(hidden * keep[:, None], weight)
            hidden, cell = _unit(gates, cell, keep[:, None])
            outs.append(hidden)
        return self.tops(outs, [hidden, cell])


def _unit(gates: Tensor, cell: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    i, f, o, g = gates.chunk(4, -1)
    cell = keep * torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


@register("LSTMUnit")
class LSTMUnit(Layer):
    """One step of an LSTM: previous cell (1, N, D), gates (1, N, 4D), cont (1, N)."""

    counts = (3, 3)

    def forward(self, cell: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
        """Cell and hidden state, (1, N, D) each."""
        hidden, cell = _unit(gates, cell, cont.to(gates.dtype)[..., None])
        return cell, hidden
