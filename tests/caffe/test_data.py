"""Data layers read what their files hold, in Caffe's order, from any position."""

from __future__ import annotations

import gzip
import io
import struct
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.caffe.data import BROKEN, Source, source
from pellucid.caffe.data.images import decode_image
from pellucid.caffe.errors import CaffeError
from pellucid.caffe.proto import array_to_blob, messages, text, write_binary
from pellucid.caffe.tools.compute_image_mean import compute_image_mean
from pellucid.caffe.tools.convert_imageset import convert_imageset
from pellucid.caffe.tools.convert_mnist import convert_mnist

PIXELS = np.random.default_rng(0).integers(0, 256, (10, 6, 8), dtype=np.uint8)
LABELS = np.arange(10, dtype=np.uint8) % 3


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">I{values.ndim}I", 0x800 + values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    (tmp_path / "images").write_bytes(gzip.compress(idx(PIXELS)))
    (tmp_path / "labels").write_bytes(idx(LABELS))
    assert convert_mnist(tmp_path / "images", tmp_path / "labels", tmp_path / "db") == 10
    return tmp_path


def made(prototxt: str, folder: Path, phase: str = "TRAIN", seed: int = 0) -> Source:
    layer = text.parse(prototxt, messages.LayerParameter())
    return source(layer, phase, seed=seed, root=str(folder))


def data_layer(batch: int = 4, transform: str = "", name: str = "db") -> str:
    return (
        f'name: "d" type: "Data" top: "data" top: "label" transform_param {{ {transform} }} '
        f'data_param {{ source: "{name}" backend: LMDB batch_size: {batch} }}'
    )


def batches(source: Source, count: int, **where: int) -> list[dict[str, torch.Tensor]]:
    return list(islice(source.loader(**where), count))


def test_a_database_is_read_in_order_and_begins_again(database: Path) -> None:
    made_source = made(data_layer(transform="scale: 0.5"), database)
    assert made_source.shapes == {"data": (4, 1, 6, 8), "label": (4,)}
    found = batches(made_source, 3)
    assert [b["label"].tolist() for b in found] == [[0, 1, 2, 0], [1, 2, 0, 1], [2, 0, 0, 1]]
    expected = torch.from_numpy(PIXELS[[8, 9, 0, 1]]).float() / 2
    assert torch.equal(found[2]["data"][:, 0], expected)


def test_what_is_random_depends_on_seed_and_position_alone(database: Path) -> None:
    layer = data_layer(transform="crop_size: 4 mirror: true")
    run = batches(made(layer, database), 6)
    later = batches(made(layer, database), 2, start=4, workers=1)
    assert all(torch.equal(a["data"], b["data"]) for a, b in zip(run[4:], later, strict=True))
    assert not torch.equal(run[0]["data"], batches(made(layer, database, seed=1), 1)[0]["data"])
    # the same record in another pass is cropped anew
    assert not torch.equal(run[0]["data"], run[5]["data"])


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_had_by_number(database: Path, workers: int) -> None:
    made_source = made(data_layer(transform="crop_size: 4 mirror: true"), database)
    wanted = batches(made_source, 8)
    by_number = made_source.batches(workers)
    for number in (1, 2, 5, 3, 4, 0):
        torch.testing.assert_close(by_number.take(number), wanted[number], rtol=0, atol=0)
    some = list(by_number.some(2, 3))
    torch.testing.assert_close(some, wanted[2:5], rtol=0, atol=0)
    torch.testing.assert_close(by_number.take(1), wanted[1], rtol=0, atol=0)


def test_testing_crops_the_centre_and_subtracts_the_mean_of_it(database: Path) -> None:
    compute_image_mean(str(database / "db"), database / "mean.binaryproto")
    layer = data_layer(transform='crop_size: 4 mean_file: "mean.binaryproto"')
    (found,) = batches(made(layer, database, "TEST"), 1)
    expected = PIXELS[:4] - PIXELS.mean(0, keepdims=True).astype(np.float32)
    np.testing.assert_allclose(found["data"][:, 0], expected[:, 1:5, 2:6], atol=1e-4)


def test_mean_values_are_subtracted_before_scaling(database: Path) -> None:
    (found,) = batches(made(data_layer(transform="mean_value: 10 scale: 2"), database), 1)
    np.testing.assert_allclose(found["data"][:, 0], (PIXELS[:4].astype(np.float32) - 10) * 2)


@pytest.mark.parametrize(
    ("transform", "name", "said"),
    [
        ("crop_size: 7", "db", "crop_size 7 exceeds the images' 6 x 8"),
        ('mean_file: "missing"', "db", "cannot read .*missing"),
        ("mean_value: 1 mean_value: 2", "db", "2 mean_value for images of 1 channels"),
        ('mean_value: 1 mean_file: "x"', "db", "keep one"),
        ("", "nowhere", "there is no database"),
    ],
)
def test_what_does_not_fit_is_one_error(
    database: Path, transform: str, name: str, said: str
) -> None:
    with pytest.raises(CaffeError, match=said):
        batches(made(data_layer(transform=transform, name=name), database), 1)


def test_a_mean_of_another_size(database: Path) -> None:
    write_binary(database / "mean", array_to_blob(np.zeros((1, 1, 3, 3), np.float32)))
    with pytest.raises(CaffeError, match=r"has shape \(1, 3, 3\), an image \(1, 6, 8\)"):
        batches(made(data_layer(transform='mean_file: "mean"'), database), 1)


def test_a_truncated_database(database: Path) -> None:
    data = (database / "db" / "data.mdb").read_bytes()
    (database / "db" / "data.mdb").write_bytes(data[:100])
    with pytest.raises(CaffeError, match="cannot open the LMDB database"):
        made(data_layer(), database)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_database_whose_end_is_missing(database: Path, share: float) -> None:
    """To read behind the end of the file would kill the process, without a word."""
    file = database / "db" / "data.mdb"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CaffeError, match=r"is cut off|cannot open|damaged"):
        batches(made(data_layer(), database), 3)


def test_broken_records_are_skipped_and_counted_if_asked(database: Path) -> None:
    lmdb: Any = pytest.importorskip("lmdb")
    with lmdb.open(str(database / "db")) as environment, environment.begin(write=True) as change:
        change.put(b"00000001", b"no datum")
        change.put(b"00000002", messages.Datum(channels=1, height=6, width=8).SerializeToString())
    layer = text.parse(data_layer(), messages.LayerParameter())
    with pytest.raises(CaffeError, match=r"layer 'd' \(Data\): .*record 1"):
        batches(source(layer, "TRAIN", seed=0, root=str(database)), 1)
    skipping = source(layer, "TRAIN", seed=0, root=str(database), skip_broken=True)
    first, second = batches(skipping, 2)
    assert first["label"].tolist() == [LABELS[k] for k in (0, 3, 3, 3)]
    assert first[BROKEN].tolist() == [0, 2, 1, 0]
    assert second[BROKEN].tolist() == [0, 0, 0, 0]
    assert torch.equal(batches(skipping, 1, start=1)[0]["data"], second["data"])


def test_a_database_of_broken_records_only(database: Path) -> None:
    lmdb: Any = pytest.importorskip("lmdb")
    with lmdb.open(str(database / "db")) as environment, environment.begin(write=True) as change:
        for k in range(10):
            change.put(b"%08d" % k, b"no datum")
    layer = text.parse(data_layer(), messages.LayerParameter())
    with pytest.raises(CaffeError, match="none of its 10 records can be read"):
        source(layer, "TRAIN", seed=0, root=str(database), skip_broken=True)


@pytest.mark.parametrize("cut", [3, 10, 200])
def test_truncated_idx_files(tmp_path: Path, cut: int) -> None:
    (tmp_path / "images").write_bytes(idx(PIXELS)[:cut])
    (tmp_path / "labels").write_bytes(idx(LABELS))
    with pytest.raises(CaffeError, match="images"):
        convert_mnist(tmp_path / "images", tmp_path / "labels", tmp_path / "db")
    assert not (tmp_path / "db").exists()


def test_leveldb(tmp_path: Path) -> None:
    plyvel: Any = pytest.importorskip("plyvel")
    with plyvel.DB(str(tmp_path / "db"), create_if_missing=True) as database:
        for k in range(3):
            datum = messages.Datum(channels=1, height=1, width=2, label=k, data=bytes([k, 7]))
            database.put(b"%08d" % k, datum.SerializeToString())
    layer = (
        'name: "d" type: "Data" top: "data" top: "label" data_param { source: "db" batch_size: 2 }'
    )
    first, second = batches(made(layer, tmp_path), 2)
    assert second["label"].tolist() == [2, 0]
    assert first["data"].flatten(1).tolist() == [[0, 7], [1, 7]]
    with pytest.raises(CaffeError, match="is a LEVELDB database"):
        made(layer.replace("batch_size", "backend: LMDB batch_size"), tmp_path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    colors = np.random.default_rng(1).integers(0, 256, (5, 6, 8, 3), dtype=np.uint8)
    lines = []
    for k, color in enumerate(colors):
        Image.fromarray(color).save(tmp_path / f"a picture {k}.png")
        lines.append(f"a picture {k}.png {k}")
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    np.save(tmp_path / "colors.npy", colors)
    return tmp_path


IMAGES = (
    'name: "i" type: "ImageData" top: "data" top: "label" '
    'image_data_param {{ source: "list.txt" batch_size: 5 {} }}'
)


def test_listed_images_are_blue_green_red(pictures: Path) -> None:
    (found,) = batches(made(IMAGES.format(""), pictures), 1)
    colors = np.load(pictures / "colors.npy")
    assert np.array_equal(found["data"].numpy(), colors.transpose(0, 3, 1, 2)[:, ::-1])
    assert found["label"].tolist() == [0, 1, 2, 3, 4]


def test_pictures_of_different_sizes_are_one_error(pictures: Path) -> None:
    Image.fromarray(np.zeros((9, 8, 3), np.uint8)).save(pictures / "a picture 3.png")
    with pytest.raises(CaffeError, match=r"shape \(3, 9, 8\) after one of \(3, 6, 8\).*crop_size"):
        batches(made(IMAGES.format(""), pictures), 1)
    resized = made(IMAGES.format("new_height: 5 new_width: 4"), pictures)
    assert batches(resized, 1)[0]["data"].shape == (5, 3, 5, 4)


def test_shuffled_images_come_in_another_order_in_each_pass(pictures: Path) -> None:
    found = [
        b["label"].tolist() for b in batches(made(IMAGES.format("shuffle: true"), pictures), 3)
    ]
    assert all(sorted(labels) == [0, 1, 2, 3, 4] for labels in found)
    assert len({tuple(labels) for labels in found}) > 1


def test_missing_and_broken_images(pictures: Path) -> None:
    (pictures / "a picture 1.png").write_bytes(b"no picture")
    with pytest.raises(CaffeError, match=r"a picture 1\.png"):
        batches(made(IMAGES.format(""), pictures), 1)
    (pictures / "list.txt").write_text("a picture 0.png cat\n")
    with pytest.raises(CaffeError, match=r"list\.txt:1"):
        made(IMAGES.format(""), pictures)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("backend", ["LMDB", "LEVELDB"])
def test_a_converted_list_is_the_list(pictures: Path, encoded: bool, backend: str) -> None:
    listing = str(pictures / "list.txt")
    kinds: dict[str, Any] = {"encoded": encoded, "backend": backend}
    count = convert_imageset(f"{pictures}/", listing, pictures / "db", **kinds)
    assert count == 5
    (found,) = batches(made(data_layer(5).replace("LMDB", backend), pictures), 1)
    (listed,) = batches(made(IMAGES.format(""), pictures), 1)
    assert torch.equal(found["data"], listed["data"])
    assert torch.equal(found["label"], listed["label"])


def test_pictures_are_decoded_as_opencv_does() -> None:
    cv2: Any = pytest.importorskip("cv2")
    colors = np.random.default_rng(2).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    written = io.BytesIO()
    Image.fromarray(colors).save(written, "JPEG", quality=95)
    theirs = cv2.imdecode(np.frombuffer(written.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    ours = decode_image(written.getvalue(), "picture", color=True).transpose(1, 2, 0)
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 2


def test_hdf5_files_one_behind_the_other(tmp_path: Path) -> None:
    h5py: Any = pytest.importorskip("h5py")
    for k, rows in enumerate((3, 2)):
        with h5py.File(tmp_path / f"{k}.h5", "w") as file:
            file["x"] = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2) + 10 * k
            file["y"] = np.arange(rows, dtype=np.float32)
    (tmp_path / "list").write_text("0.h5\n1.h5\n")
    layer = (
        'name: "h" type: "HDF5Data" top: "x" top: "y" '
        'hdf5_data_param { source: "list" batch_size: 4 %s }'
    )
    found = made(layer % "", tmp_path)
    assert found.shapes == {"x": (4, 2), "y": (4,)}
    first, second = batches(found, 2)
    assert first["x"][:, 0].tolist() == [0, 2, 4, 10]
    assert second["x"][:, 0].tolist() == [12, 0, 2, 4]
    shuffled = batches(made(layer % "shuffle: true", tmp_path), 5)
    passes = torch.cat([b["x"][:, 0] for b in shuffled]).reshape(4, 5).tolist()
    assert all(sorted(rows) == [0, 2, 4, 10, 12] for rows in passes)
    with pytest.raises(CaffeError, match="has no dataset 'z'"):
        made((layer % "").replace('"y"', '"z"'), tmp_path)


def test_dummy_data(tmp_path: Path) -> None:
    layer = (
        'name: "d" type: "DummyData" top: "x" top: "l" dummy_data_param { '
        "shape { dim: 3 dim: 2 } shape { dim: 3 } "
        'data_filler { type: "gaussian" } data_filler { value: 1 } }'
    )
    first, second = batches(made(layer, tmp_path), 2)
    assert first["l"].tolist() == [1, 1, 1]
    assert first["x"].shape == (3, 2)
    assert not torch.equal(first["x"], second["x"])


def test_inputs_are_zeros(tmp_path: Path) -> None:
    layer = 'name: "i" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } }'
    (found,) = batches(made(layer, tmp_path), 1)
    assert torch.equal(found["x"], torch.zeros(2, 3))


def test_data_layers_have_no_bottoms(tmp_path: Path) -> None:
    with pytest.raises(CaffeError, match="a data layer has no bottoms"):
        made('name: "m" type: "Input" top: "x" bottom: "y"', tmp_path)


def test_layers_that_read_nothing_say_so(tmp_path: Path) -> None:
    with pytest.raises(CaffeError, match="a program puts its data into memory"):
        made('name: "m" type: "MemoryData" top: "x"', tmp_path)
