"""WindowData: parts of pictures around objects and around nothing, as R-CNN is trained on.

A window file has a block a picture; ``overlap`` is that of the window with an object of the class:

    # 0
    PATH
    CHANNELS
    HEIGHT
    WIDTH
    NUMBER OF WINDOWS
    CLASS OVERLAP X1 Y1 X2 Y2      (so many lines)

Source: Girshick et al. 2014; BVLC/caffe, WindowDataLayer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import torch
from torch.utils.data import Dataset

from pellucid.caffe.data.endless import Asked, Batch, Source
from pellucid.caffe.data.images import read_image, resize
from pellucid.caffe.data.transform import read_mean
from pellucid.caffe.errors import CaffeError, about

__all__ = ["Window", "cut", "read_windows", "windows"]

_MODES: Final = ("warp", "square")


@dataclass(frozen=True)
class Window:
    """One line of a window file.

    Attributes:
        path: of the picture.
        label: class of the object.
        overlap: with it, 0 to 1.
        box: x1, y1, x2, y2 in pixels, both ends inside.
    """

    path: str
    label: int
    overlap: float
    box: tuple[int, int, int, int]


def read_windows(path: Path) -> list[Window]:
    """All windows of a file.

    Raises:
        CaffeError: it cannot be read, or a line is not what must stand there.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read the window file {path}: {error}"
        raise CaffeError(msg) from error
    numbered = ((k, line.strip()) for k, line in enumerate(lines, 1) if line.strip())
    found: list[Window] = []
    for number, line in numbered:
        try:
            if not line.startswith("#"):
                msg = f"{line!r} stands where '# NUMBER OF PICTURE' must"
                raise ValueError(msg)
            found += _block(numbered)
        except (ValueError, StopIteration) as error:
            why = str(error) or "it ends within this block"
            msg = f"{path}:{number}: this block is no picture with its windows: {why}"
            raise CaffeError(msg) from None
    return found


def _block(numbered: Iterator[tuple[int, str]]) -> list[Window]:
    """The rest of a picture's block."""
    picture = next(numbered)[1]
    _, _, _, count = [int(next(numbered)[1]) for _ in range(4)]
    found = []
    for _ in range(count):
        label, overlap, *box = next(numbered)[1].split()
        x1, y1, x2, y2 = map(int, box)
        found.append(Window(picture, int(label), float(overlap), (x1, y1, x2, y2)))
    return found


def cut(
    picture: np.ndarray, box: Sequence[int], size: int, context: int, *, square: bool
) -> tuple[np.ndarray, int, int]:
    """A window of a picture, warped to a square, with some of what is around it.

    Args:
        picture: uint8, (channels, height, width).
        box: x1, y1, x2, y2, both ends inside.
        size: of the square.
        context: pixels of the result around the window.
        square: keep the window's proportions by widening it.

    Returns:
        The warped part that lies in the picture, at most (channels, size, size), and how many rows
        above and columns before it have no picture.
    """
    x1, y1, x2, y2 = box
    if not context and not square:
        return resize(picture[:, y1 : y2 + 1, x1 : x2 + 1], size, size), 0, 0
    half = np.array([y2 - y1 + 1, x2 - x1 + 1]) / 2
    centre = np.array([y1, x1]) + half
    if square:
        half[:] = half.max()
    half = half * size / (size - 2 * context)
    first, last = _rounded(centre - half), _rounded(centre + half)
    scale = size / (last - first + 1)
    limits = np.array(picture.shape[1:])
    before, behind = np.maximum(0, -first), np.maximum(0, last - limits + 1)
    first, last = first + before, last - behind
    warped = _rounded((last - first + 1) * scale)
    pad = _rounded(before * scale)
    warped = np.minimum(warped, size - pad)  # rounding may make it one too large
    part = picture[:, first[0] : last[0] + 1, first[1] : last[1] + 1]
    return resize(part, int(warped[0]), int(warped[1])), int(pad[0]), int(pad[1])


def _rounded(values: np.ndarray) -> np.ndarray:
    """To whole numbers, halves away from zero as C does."""
    rounded: np.ndarray = (np.sign(values) * np.floor(np.abs(values) + 0.5)).astype(int)
    return rounded


class _Windows(Dataset[Batch]):
    """Batches of background windows, then foreground ones, each drawn by its position."""

    def __init__(self, asked: Asked) -> None:
        self._param: Any = asked.layer.window_data_param
        self._layer = SimpleNamespace(name=asked.layer.name, type=asked.layer.type)
        self._root, self._seed, self._tops = asked.root, asked.seed, list(asked.layer.top)
        self._size, self._scale, self._mirror, self._mean = _transformation(asked)
        p = self._param
        every = read_windows(Path(asked.root) / p.source)
        self._foreground = [w for w in every if w.overlap >= p.fg_threshold]
        self._background = [w for w in every if w.overlap < min(p.bg_threshold, p.fg_threshold)]
        self.batch_size = asked.batch_size(p.batch_size)
        self._of_foreground = int(self.batch_size * p.fg_fraction)
        for name, found, wanted in (
            ("foreground", self._foreground, self._of_foreground),
            ("background", self._background, self.batch_size - self._of_foreground),
        ):
            if wanted and not found:
                msg = f"{p.source} has no {name} windows, and fg_fraction asks for some"
                raise CaffeError(msg)
        first = self[0][self._tops[0]]
        self.shape = tuple(first.shape)

    def __getitem__(self, position: int) -> Batch:
        with about(self._layer):
            foreground = position % self.batch_size >= self.batch_size - self._of_foreground
            drawn = np.random.default_rng((self._seed, position))
            among = self._foreground if foreground else self._background
            window = among[int(drawn.integers(len(among)))]
            mirrored = self._mirror and bool(drawn.integers(2))
            image = torch.from_numpy(self._image(window, mirrored=mirrored))
        label = torch.tensor(window.label if foreground else 0)
        return dict(zip(self._tops, (image, label), strict=False))

    def _image(self, window: Window, *, mirrored: bool) -> np.ndarray:
        p, size = self._param, self._size
        path = Path(self._root) / (p.root_folder + window.path)
        picture = read_image(path, color=True)
        square = p.crop_mode == "square"
        part, top, left = cut(picture, window.box, size, p.context_pad, square=square)
        if mirrored:
            part, left = part[:, :, ::-1], size - left - part.shape[2]
        image = np.zeros((len(part), size, size), np.float32)
        where = (slice(None), slice(top, top + part.shape[1]), slice(left, left + part.shape[2]))
        mean = self._mean[where] if self._mean.shape[1] > 1 else self._mean
        image[where] = (part.astype(np.float32) - mean) * self._scale
        return image


def _transformation(asked: Asked) -> tuple[int, np.float32, bool, np.ndarray]:
    """Size, scale, mirroring, and the mean: (channels, size, size) or (channels, 1, 1)."""
    p, window = asked.layer.transform_param, asked.layer.window_data_param
    if window.crop_mode not in _MODES:
        msg = f"crop_mode {window.crop_mode!r} is unknown: it is {' or '.join(_MODES)}"
        raise CaffeError(msg)
    if p.crop_size <= 2 * window.context_pad:
        msg = f"crop_size {p.crop_size} must be more than twice context_pad {window.context_pad}"
        raise CaffeError(msg)
    mean = np.array(p.mean_value or [0], np.float32)[:, None, None]
    if p.mean_file:
        mean = read_mean(Path(asked.root) / p.mean_file)
        spare = [n - p.crop_size for n in mean.shape[1:]]
        if min(spare) < 0:
            msg = f"the mean {p.mean_file} of {mean.shape} is smaller than crop_size {p.crop_size}"
            raise CaffeError(msg)
        top, left = spare[0] // 2, spare[1] // 2
        mean = mean[:, top : top + p.crop_size, left : left + p.crop_size]
    return p.crop_size, np.float32(p.scale), p.mirror, mean


def windows(asked: Asked) -> Source:
    """Windows of the pictures that a window file lists.

    Raises:
        CaffeError: the file is missing or damaged, or has too few windows.
    """
    made = _Windows(asked)
    size = made.batch_size
    shapes: list[tuple[int, ...]] = [(size, *made.shape), (size,)]
    return Source(made, size, dict(zip(asked.layer.top, shapes, strict=False)))
