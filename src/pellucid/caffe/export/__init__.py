"""Leaving Caffe: a net as a plain PyTorch module, its weights as a state dict, and back."""

from __future__ import annotations

from pellucid.caffe.export.module import write_module
from pellucid.caffe.export.state import from_state_dict, read_state_dict, to_state_dict

__all__ = ["from_state_dict", "read_state_dict", "to_state_dict", "write_module"]
