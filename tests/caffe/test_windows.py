"""Windows of pictures: which are drawn, and what is cut out."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.caffe.data import Source, source
from pellucid.caffe.data.images import resize
from pellucid.caffe.data.windows import cut, read_windows
from pellucid.caffe.errors import CaffeError
from pellucid.caffe.proto import array_to_blob, messages, text, write_binary

FILE = """# 0
a.png
3
20
30
3
4 0.9 2 3 12 11
7 0.6 5 5 9 9
4 0.1 20 2 29 19
# 1
b.png
3
20
30
1
2 0.0 0 0 9 9
"""
PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        Image.fromarray(PICTURE).save(tmp_path / name)
    (tmp_path / "windows.txt").write_text(FILE)
    return tmp_path


def made(folder: Path, more: str = "", transform: str = "crop_size: 8") -> Source:
    layer = text.parse(
        f'name: "w" type: "WindowData" top: "data" top: "label" transform_param {{ {transform} }} '
        f'window_data_param {{ source: "windows.txt" batch_size: 8 {more} }}',
        messages.LayerParameter(),
    )
    return source(layer, "TRAIN", seed=3, root=str(folder))


def test_a_batch_is_background_then_foreground(folder: Path) -> None:
    found = made(folder, "fg_fraction: 0.25")
    assert found.shapes == {"data": (8, 3, 8, 8), "label": (8,)}
    labels = torch.stack([b["label"] for b in islice(found.loader(), 20)])
    assert set(labels[:, :6].flatten().tolist()) == {0}
    assert set(labels[:, 6:].flatten().tolist()) == {4, 7}
    again = next(islice(found.loader(start=5), 1))
    torch.testing.assert_close(again, list(islice(found.loader(), 6))[5])


def test_a_window_is_warped_as_opencv_warps() -> None:
    cv2: Any = pytest.importorskip("cv2")
    picture = PICTURE.transpose(2, 0, 1)
    part, top, left = cut(picture, (2, 3, 12, 11), 8, 0, square=False)
    theirs = cv2.resize(PICTURE[3:12, 2:13], (8, 8), interpolation=cv2.INTER_LINEAR)
    assert (top, left) == (0, 0)
    assert np.abs(part.astype(int) - theirs.transpose(2, 0, 1)).max() <= 1
    assert (
        np.abs(
            resize(picture, 9, 40).astype(int) - cv2.resize(PICTURE, (40, 9)).transpose(2, 0, 1)
        ).max()
        <= 1
    )


def test_context_outside_of_the_picture_is_nothing() -> None:
    """Worked out by hand: a window of 8 x 8 in the corner, 4 pixels around it in 16 x 16."""
    picture = np.full((1, 20, 30), 100, np.uint8)
    part, top, left = cut(picture, (0, 0, 7, 7), 16, 4, square=False)
    # enlarged by 16 / 8 to -4 .. 12 (17 rows), of which 13 lie in the picture
    assert (top, left) == (4, 4)
    assert part.shape == (1, 12, 12)


def test_a_square_keeps_proportions() -> None:
    picture = np.zeros((1, 40, 40), np.uint8)
    picture[:, 10:30, 15:25] = 100  # 20 high and 10 wide
    warped, _, _ = cut(picture, (15, 10, 24, 29), 20, 0, square=True)
    assert warped.shape == (1, 20, 20)
    columns = (warped[0] > 50).sum(1)
    assert columns[5:15].min() >= 9
    assert columns.max() <= 11


def test_mean_and_scale(folder: Path) -> None:
    mean = np.full((1, 3, 10, 10), 3, np.float32)
    write_binary(folder / "mean", array_to_blob(mean))
    transform = 'crop_size: 8 scale: 0.5 mean_file: "mean" mirror: true'
    (found,) = islice(made(folder, transform=transform).loader(), 1)
    (values,) = islice(
        made(folder, transform="crop_size: 8 scale: 0.5 mean_value: 3 mirror: true").loader(), 1
    )
    torch.testing.assert_close(found, values)
    assert found["data"].max() <= 126


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("# 1", "1"), r"windows\.txt:\d+: .*'1' stands where"),
        (("30\n1\n", "30\n2\n"), "it ends within this block"),
        (("2 0.0 0 0 9 9", "2 0.0 0 0 9"), "values to unpack"),
        (("4 0.9", "4 x"), "could not convert"),
        (("a.png", "c.png"), r"cannot read the picture .*c\.png"),
    ],
)
def test_damaged_window_files_are_one_error(
    folder: Path, change: tuple[str, str], said: str
) -> None:
    (folder / "windows.txt").write_text(FILE.replace(*change, 1))
    with pytest.raises(CaffeError, match=said):
        list(islice(made(folder).loader(), 8))


def test_what_cannot_be_is_one_error(folder: Path) -> None:
    assert len(read_windows(folder / "windows.txt")) == 4
    for more, transform, said in (
        ('crop_mode: "round"', "crop_size: 8", "crop_mode 'round' is unknown"),
        ("context_pad: 4", "crop_size: 8", "more than twice context_pad"),
        ("fg_threshold: 0.95", "crop_size: 8", "no foreground windows"),
    ):
        with pytest.raises(CaffeError, match=said):
            made(folder, more, transform)
