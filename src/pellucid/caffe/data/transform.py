"""Caffe's transformation of images: crop, mirror, mean, scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pellucid.caffe.errors import CaffeError
from pellucid.caffe.proto import blob_to_array, messages, read_binary

__all__ = ["Transform", "read_mean"]


def read_mean(path: Path) -> np.ndarray:
    """A mean image: float32, (channels, height, width).

    Raises:
        CaffeError: the file is missing or damaged, or holds no image.
    """
    mean = blob_to_array(read_binary(path, messages.BlobProto), str(path))
    if mean.size != np.prod(mean.shape[-3:]) or mean.ndim < 3:
        msg = f"the mean {path} has shape {mean.shape}: it is no image (channels, height, width)"
        raise CaffeError(msg)
    return mean.reshape(mean.shape[-3:]).astype(np.float32)


class Transform:
    """(image - mean) * scale, on a crop, perhaps mirrored.

    What is random is a function of the seed and the record's position in the whole run: it does
    not matter who reads a record, or when.

    Args:
        param: a TransformationParameter.
        phase: crops are random in TRAIN and central in TEST.
        seed: of what is random.
        root: folder that the mean file's path starts from.
    """

    def __init__(self, param: Any, phase: str, seed: int, root: str) -> None:
        if param.mean_file and param.mean_value:
            msg = "both mean_file and mean_value are given: keep one"
            raise CaffeError(msg)
        self._crop = param.crop_size
        self._mirror = param.mirror
        self._scale = np.float32(param.scale)
        self._train = phase == "TRAIN"
        self._seed = seed
        self._mean: np.ndarray | None = None
        self._values = np.array(param.mean_value, np.float32)[:, None, None]
        if param.mean_file:
            self._mean_file = Path(root) / param.mean_file
            self._mean = read_mean(self._mean_file)

    def shape(self, image: tuple[int, ...]) -> tuple[int, int, int]:
        """Of the result for an image of this shape."""
        channels, height, width = image
        if self._crop > min(height, width):
            msg = f"crop_size {self._crop} exceeds the images' {height} x {width}"
            raise CaffeError(msg)
        return (channels, self._crop or height, self._crop or width)

    def __call__(self, image: np.ndarray, position: int) -> np.ndarray:
        """Transform one image.

        Args:
            image: (channels, height, width), uint8 or float32.
            position: of the record in the whole run.

        Raises:
            CaffeError: mean or crop do not fit it.
        """
        _, height, width = self.shape(image.shape)
        top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
        mirrored = False
        if self._mirror or (self._crop and self._train):
            draw = np.random.default_rng((self._seed, position)).random(3)
            mirrored = self._mirror and draw[0] < 0.5
            if self._crop and self._train:
                top = int(draw[1] * (image.shape[1] - height + 1))
                left = int(draw[2] * (image.shape[2] - width + 1))
        window = (slice(None), slice(top, top + height), slice(left, left + width))
        result = image[window].astype(np.float32)
        if self._mean is not None:
            if self._mean.shape != image.shape:
                msg = (
                    f"the mean {self._mean_file} has shape "
                    f"{self._mean.shape}, an image {image.shape}: they must be the same"
                )
                raise CaffeError(msg)
            result -= self._mean[window]
        elif self._values.size:
            if self._values.size not in (1, image.shape[0]):
                msg = (
                    f"{self._values.size} mean_value for images of "
                    f"{image.shape[0]} channels: give one, or one a channel"
                )
                raise CaffeError(msg)
            result -= self._values
        if self._scale != 1:
            result *= self._scale
        return np.ascontiguousarray(result[:, :, ::-1]) if mirrored else result
