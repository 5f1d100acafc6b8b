"""Errors of Caffe's front end.

CaffeError           a Caffe file or net cannot be used: names file (and line), cause and remedy
"""

from __future__ import annotations

from pellucid.errors import PellucidError

__all__ = ["CaffeError"]


class CaffeError(PellucidError):
    """A Caffe file, net or solver cannot be used as it stands."""
