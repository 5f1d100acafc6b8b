"""Prototxt and binary files: read, upgraded, and refused with one clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pellucid.caffe.errors import CaffeError
from pellucid.caffe.proto import (
    array_to_blob,
    blob_to_array,
    messages,
    read_net,
    read_solver,
    text,
    upgrade_net,
)
from pellucid.caffe.select import select


def parsed(prototxt: str) -> object:
    return text.parse(prototxt, messages.NetParameter(), "net.prototxt")


@pytest.mark.parametrize(
    ("prototxt", "said"),
    [
        ('name: "x"\nlayer { nam: "c" }', "net.prototxt:2:9: .*Did you mean 'name'"),
        ("layer { convolutoin_param { } }", "net.prototxt:1:9: .*Did you mean 'convolution_param'"),
        ("layer { pooling_param { pool: MAXX } }", "Did you mean 'MAX'"),
        ("layer { name: }", "net.prototxt:1:15"),
        ("layer {", "net.prototxt:1:"),
        ("layer { include { phase: TRIAN } }", "Did you mean 'TRAIN'"),
    ],
)
def test_errors_name_file_line_column_and_the_nearest_name(prototxt: str, said: str) -> None:
    with pytest.raises(CaffeError, match=said):
        parsed(prototxt)


def test_defaults_are_caffes() -> None:
    layer = messages.LayerParameter()
    assert layer.lrn_param.local_size == 5
    assert layer.pooling_param.stride == 1
    assert layer.batch_norm_param.moving_average_fraction == pytest.approx(0.999)
    assert layer.dropout_param.dropout_ratio == 0.5
    solver = messages.SolverParameter()
    assert (solver.type, solver.test_initialization, solver.average_loss) == ("SGD", True, 1)


def test_nets_of_the_older_format_are_todays() -> None:
    net: object = parsed(
        """
        input: "data" input_dim: 2 input_dim: 3 input_dim: 4 input_dim: 4
        layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" blobs_lr: 1 blobs_lr: 2
                 weight_decay: 1 weight_decay: 0
                 convolution_param { num_output: 4 kernel_size: 3 } }
        layers { name: "l" type: SOFTMAX_LOSS bottom: "c" bottom: "label" include { phase: TRAIN } }
        layers { name: "h" type: HDF5_DATA top: "label" }
        """
    )
    new = upgrade_net(net)
    assert [layer.type for layer in new.layer] == [
        "Input",
        "Convolution",
        "SoftmaxWithLoss",
        "HDF5Data",
    ]
    assert [(p.lr_mult, p.decay_mult) for p in new.layer[1].param] == [(1, 1), (2, 0)]
    assert list(new.layer[0].input_param.shape[0].dim) == [2, 3, 4, 4]


def test_nets_of_the_oldest_format_are_todays() -> None:
    net: object = parsed(
        """
        layers { layer { name: "d" type: "data" source: "db" meanfile: "m" batchsize: 4 cropsize: 5
                         mirror: true scale: 0.5 } top: "data" top: "label" }
        layers { layer { name: "p" type: "padding" pad: 2 } bottom: "data" top: "p" }
        layers { layer { name: "c" type: "conv" num_output: 4 kernelsize: 3 stride: 2
                         biasterm: false weight_filler { type: "xavier" }
                         blobs_lr: 1 weight_decay: 2 }
                 bottom: "p" top: "c" }
        layers { layer { name: "m" type: "pool" pool: AVE kernelsize: 3 stride: 2 }
                 bottom: "c" top: "m" }
        layers { layer { name: "l" type: "softmax_loss" } bottom: "m" bottom: "label" }
        """
    )
    wanted = parsed(
        """
        layer { name: "d" type: "Data" top: "data" top: "label"
                transform_param { scale: 0.5 mirror: true crop_size: 5 mean_file: "m" }
                data_param { source: "db" batch_size: 4 } }
        layer { name: "c" type: "Convolution" bottom: "data" top: "c"
                param { lr_mult: 1 decay_mult: 2 }
                convolution_param { num_output: 4 bias_term: false pad: 2 kernel_size: 3 stride: 2
                                    weight_filler { type: "xavier" } } }
        layer { name: "m" type: "Pooling" bottom: "c" top: "m"
                pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
        layer { name: "l" type: "SoftmaxWithLoss" bottom: "m" bottom: "label" }
        """
    )
    assert upgrade_net(net) == wanted


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ('type: "convolution"', "which no old net has"),
        ('type: "relu" num_output: 3', "'num_output', which its type has not"),
    ],
)
def test_an_oldest_layer_that_cannot_be(layer: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "net").write_text(f'name: "n"\nlayers {{ layer {{ name: "a" {layer} }} }}')
    with pytest.raises(CaffeError, match=f"net:2: layer 'a'.*{said}"):
        read_net(tmp_path / "net")


def test_transformations_were_among_the_fields_of_data_layers() -> None:
    new = upgrade_net(
        parsed('layer { type: "Data" data_param { scale: 0.5 crop_size: 3 mirror: true } }')
    )
    param = new.layer[0].transform_param
    assert (param.scale, param.crop_size, param.mirror) == (0.5, 3, True)


def test_an_old_solver_type_is_todays(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("solver_type: ADAGRAD base_lr: 0.1")
    assert read_solver(tmp_path / "s").type == "AdaGrad"
    with pytest.raises(CaffeError, match="cannot read"):
        read_net(tmp_path / "missing")


@pytest.mark.parametrize(
    ("rules", "phase", "level", "stages", "stays"),
    [
        ("", "TEST", 0, (), True),
        ("include { phase: TRAIN }", "TEST", 0, (), False),
        ("include { phase: TRAIN } include { phase: TEST }", "TEST", 0, (), True),
        ("exclude { phase: TEST }", "TEST", 0, (), False),
        ("include { min_level: 2 }", "TEST", 1, (), False),
        ("include { min_level: 1 max_level: 3 }", "TEST", 2, (), True),
        ('include { stage: "a" stage: "b" }', "TEST", 0, ("a",), False),
        ('include { stage: "a" not_stage: "b" }', "TEST", 0, ("a",), True),
        ('exclude { stage: "a" not_stage: "b" }', "TEST", 0, ("a", "b"), True),
    ],
)
def test_rules_say_who_takes_part(
    rules: str, phase: str, level: int, stages: tuple[str, ...], stays: bool
) -> None:
    net = parsed(f'layer {{ name: "a" {rules} }}')
    assert bool(select(net, phase, level, stages).layer) is stays


def test_layers_are_found_in_their_file() -> None:
    prototxt = (
        'name: "layer {"\nlayer {\n include { }\n name: "a" }\n# layer { name: "b" }\n'
        'layer: { param { name: "c" } name: "b"\n}\nlayers { layer {\nname: "old" } }\n'
        'net_param {\n layer { name: "inner" } }\nlayer { name: "a" }'
    )
    lines = {name: text.line_of_layer(prototxt, name) for name in ("a", "b", "old", "inner", "c")}
    assert lines == {"a": 12, "b": 6, "old": 8, "inner": 11, "c": None}


def test_blobs_keep_shape_and_values() -> None:
    arrays: list[np.ndarray] = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(2.5)]
    for values in arrays:
        again = blob_to_array(array_to_blob(values))
        assert again.dtype == values.dtype
        assert np.array_equal(again, values)
    old = messages.BlobProto(num=1, channels=2, height=1, width=1, data=[1, 2])
    assert blob_to_array(old).shape == (1, 2, 1, 1)
    with pytest.raises(CaffeError, match="damaged"):
        blob_to_array(messages.BlobProto(num=1, channels=3, height=1, width=1, data=[1, 2]))
