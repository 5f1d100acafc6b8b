"""Pictures as arrays in Caffe's layout: channels (blue, green, red), height, width."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pellucid.caffe.errors import CaffeError

__all__ = ["decode_image", "read_image", "resize"]


def decode_image(data: bytes, name: str, *, color: bool | None = None) -> np.ndarray:
    """Decode a picture.

    Args:
        data: a JPEG, PNG or the like.
        name: for errors.
        color: three channels or one; None for what it has.

    Returns:
        uint8, (channels, height, width), channels in the order of OpenCV.

    Raises:
        CaffeError: it cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _array(image, color)
    except (OSError, ValueError, SyntaxError) as error:
        msg = f"{name} is no picture that can be decoded: {error}"
        raise CaffeError(msg) from error


def read_image(path: str | Path, *, color: bool, height: int = 0, width: int = 0) -> np.ndarray:
    """Read a picture from a file, resized if height and width are given.

    Raises:
        CaffeError: it is missing or cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            found = _array(image, color)
            return resize(found, height, width) if height and width else found
    except (OSError, ValueError, SyntaxError) as error:
        msg = f"cannot read the picture {path}: {error}"
        raise CaffeError(msg) from error


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image (channels, height, width) of another size, as OpenCV's INTER_LINEAR makes it.

    That is without smoothing where it gets smaller, unlike Pillow's.
    """
    values = torch.from_numpy(np.ascontiguousarray(image)).float()[None]
    sized = torch.nn.functional.interpolate(values, (height, width), mode="bilinear")
    return sized[0].round().byte().numpy()


def _array(image: Image.Image, color: bool | None) -> np.ndarray:
    if color is None:
        color = image.mode not in ("1", "L", "I", "I;16", "F")
    if not color:
        return np.asarray(image.convert("L"))[None]
    return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1)[::-1])
