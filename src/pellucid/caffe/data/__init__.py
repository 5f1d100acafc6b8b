"""What Caffe's data layers read, as torch loaders."""

from __future__ import annotations

from pellucid.caffe.data.endless import BROKEN, Batch, Batches, Source
from pellucid.caffe.data.source import DATA_TYPES, is_data, source

__all__ = ["BROKEN", "DATA_TYPES", "Batch", "Batches", "Source", "is_data", "source"]
