"""What Caffe's data layers read, as torch loaders."""

from __future__ import annotations

from pellucid.caffe.data.source import Source, source

__all__ = ["Source", "source"]
