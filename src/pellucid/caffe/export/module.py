"""A net as the source of a plain PyTorch module, that needs neither Caffe nor pellucid."""

from __future__ import annotations

import textwrap
from pathlib import Path

from pellucid.caffe.errors import CaffeError
from pellucid.caffe.export.pieces import HELPERS
from pellucid.caffe.export.state import Named, identifier, named_pieces, to_state_dict
from pellucid.caffe.net import Net

__all__ = ["source_of", "write_module"]

_HEAD = '''"""{name}, exported from Caffe by pellucid.

    net = load()               # weights of {weights}
    net.eval()                 # or train() it: it is a module like any other
    {outputs} = net({inputs})
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

'''
_TAIL = '''

def load(path: str = "{weights}") -> Net:
    """The net with the weights of a file."""
    from safetensors.torch import load_file

    net = Net()
    net.load_state_dict(load_file(path))
    return net
'''


def write_module(net: Net, path: str | Path) -> list[Path]:
    """Write PATH.py and PATH.safetensors; return both.

    Raises:
        CaffeError: a layer cannot be exported, or the files cannot be written.
    """
    from safetensors.torch import save_file

    path = Path(path)
    code, weights = path.with_name(path.name + ".py"), path.with_name(path.name + ".safetensors")
    try:
        code.write_text(source_of(net, weights.name), encoding="utf-8")
        save_file(to_state_dict(net), str(weights))
    except OSError as error:
        msg = f"cannot write {code} and {weights}: {error}"
        raise CaffeError(msg) from error
    return [code, weights]


def source_of(net: Net, weights: str) -> str:
    """The source of a net's module.

    Args:
        net: the net; what it computes of labels, losses and measures, is left out.
        weights: file that `load` of the source reads.

    Raises:
        CaffeError: a layer cannot be exported.
    """
    pieces = named_pieces(net)
    taken: set[str] = {"self", "F", "nn", "torch"}
    inputs = {name: identifier(name, taken) for name in net.trunk_inputs}
    variables = dict(inputs)
    lines = [_line(one, variables, taken) for one in pieces if one.layer.param.top]
    outputs = [variables[name] for name in net.hand_over]
    source = _HEAD.format(
        name=net.param.name or "A net",
        weights=weights,
        inputs=", ".join(inputs.values()),
        outputs=", ".join(outputs),
    )
    for helper in sorted({one.piece.helper for one in pieces} - {""}):
        source += "\n" + HELPERS[helper] + "\n"
    source += "\nclass Net(nn.Module):\n" + textwrap.indent(_class(net, pieces, inputs), "    ")
    source += (
        textwrap.indent("\n".join([*lines, f"return {', '.join(outputs)}"]), "        ") + "\n"
    )
    return source + _TAIL.format(weights=weights)


def _class(net: Net, pieces: list[Named], inputs: dict[str, str]) -> str:
    """Docstring, constructor, and the first line of forward."""
    shapes = "; ".join(f"{mine} {net.shapes[name]}" for name, mine in inputs.items())
    left = [f"{param.name} ({param.type})" for param in net.head.params]
    text = f'"""Takes {shapes}, the batch first.'
    text += f"\n\nLeft out: {', '.join(left)}.\n" if left else ""
    text = textwrap.fill(text, 90, replace_whitespace=False) + '"""\n\n'
    text += "def __init__(self) -> None:\n    super().__init__()\n"
    made = [one for one in pieces if one.owns and one.piece.module]
    text += "".join(f"    self.{one.name} = {one.piece.module}\n" for one in made)
    arguments = ", ".join(f"{name}: Tensor" for name in inputs.values())
    kind = (
        "Tensor"
        if len(net.hand_over) == 1
        else f"tuple[{', '.join(['Tensor'] * len(net.hand_over))}]"
    )
    return text + f"\ndef forward(self, {arguments}) -> {kind}:\n"


def _line(one: Named, variables: dict[str, str], taken: set[str]) -> str:
    """The statement that computes a layer's tops."""
    param = one.layer.param
    bottoms = [variables[name] for name in param.bottom]
    second = bottoms[1] if len(bottoms) > 1 else ""
    first = bottoms[0] if bottoms else ""
    call = one.piece.call.format(
        *bottoms, x=first, y=second, all=", ".join(bottoms), self=f"self.{one.name}"
    )
    for top in param.top:
        if top not in variables:
            variables[top] = identifier(top, taken)
    return f"{', '.join(variables[top] for top in param.top)} = {call}"
