"""Published architectures as prototxt, written by a few functions."""

from __future__ import annotations

import re

__all__ = [
    "alexnet",
    "autoencoder",
    "cifar10_full",
    "cifar10_quick",
    "dummies",
    "googlenet",
    "lenet",
    "siamese",
    "squeezenet",
]

_RATES = "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }"


def layer(name: str, kind: str, bottoms: str, tops: str, more: str = "") -> str:
    ends = [f'bottom: "{b}"' for b in bottoms.split()] + [f'top: "{t}"' for t in tops.split()]
    return f'layer {{ name: "{name}" type: "{kind}" {" ".join(ends)} {more} }}\n'


def inputs(**shapes: tuple[int, ...]) -> str:
    return "".join(
        layer(
            name,
            "Input",
            "",
            name,
            f"input_param {{ shape {{ {' '.join(f'dim: {n}' for n in shape)} }} }}",
        )
        for name, shape in shapes.items()
    )


def conv(
    name: str, bottom: str, outputs: int, kernel: int, more: str = "", rates: str = _RATES
) -> str:
    return layer(
        name,
        "Convolution",
        bottom,
        name,
        f"{rates} convolution_param {{ num_output: {outputs} kernel_size: {kernel} {more} "
        'weight_filler { type: "xavier" } bias_filler { value: 0.1 } }',
    )


def relu(name: str) -> str:
    return layer(f"relu_{name}", "ReLU", name, name)


def pool(name: str, bottom: str, kernel: int, stride: int, more: str = "") -> str:
    return layer(
        name,
        "Pooling",
        bottom,
        name,
        f"pooling_param {{ kernel_size: {kernel} stride: {stride} {more} }}",
    )


def full(name: str, bottom: str, outputs: int, rates: str = _RATES) -> str:
    return layer(
        name,
        "InnerProduct",
        bottom,
        name,
        f"{rates} inner_product_param {{ num_output: {outputs} "
        'weight_filler { type: "xavier" } }',
    )


def lenet(batch: int = 64) -> str:
    """LeNet as Caffe trains it on MNIST: 431,080 parameters."""
    return (
        'name: "LeNet"\n'
        + inputs(data=(batch, 1, 28, 28), label=(batch,))
        + conv("conv1", "data", 20, 5)
        + pool("pool1", "conv1", 2, 2)
        + conv("conv2", "pool1", 50, 5)
        + pool("pool2", "conv2", 2, 2)
        + full("ip1", "pool2", 500)
        + relu("ip1")
        + full("ip2", "ip1", 10)
        + layer("accuracy", "Accuracy", "ip2 label", "accuracy", "include { phase: TEST }")
        + layer("loss", "SoftmaxWithLoss", "ip2 label", "loss")
    )


def alexnet(batch: int = 2, size: int = 227) -> str:
    """CaffeNet (Krizhevsky et al. 2012, pooled before normalised): 60,965,224 parameters.

    Pictures of 67 x 67 leave one place to the first inner product, and it is small.
    """
    norm = "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"
    drop = "dropout_param { dropout_ratio: 0.5 }"
    return (
        'name: "CaffeNet"\n'
        + inputs(data=(batch, 3, size, size), label=(batch,))
        + conv("conv1", "data", 96, 11, "stride: 4")
        + relu("conv1")
        + pool("pool1", "conv1", 3, 2)
        + layer("norm1", "LRN", "pool1", "norm1", norm)
        + conv("conv2", "norm1", 256, 5, "pad: 2 group: 2")
        + relu("conv2")
        + pool("pool2", "conv2", 3, 2)
        + layer("norm2", "LRN", "pool2", "norm2", norm)
        + conv("conv3", "norm2", 384, 3, "pad: 1")
        + relu("conv3")
        + conv("conv4", "conv3", 384, 3, "pad: 1 group: 2")
        + relu("conv4")
        + conv("conv5", "conv4", 256, 3, "pad: 1 group: 2")
        + relu("conv5")
        + pool("pool5", "conv5", 3, 2)
        + full("fc6", "pool5", 4096)
        + relu("fc6")
        + layer("drop6", "Dropout", "fc6", "fc6", drop)
        + full("fc7", "fc6", 4096)
        + relu("fc7")
        + layer("drop7", "Dropout", "fc7", "fc7", drop)
        + full("fc8", "fc7", 1000)
        + layer("loss", "SoftmaxWithLoss", "fc8 label", "loss")
    )


def _inception(name: str, bottom: str, sizes: tuple[int, ...]) -> str:
    one, three_in, three, five_in, five, pooled = sizes
    n = f"{name}/"
    return (
        conv(n + "1x1", bottom, one, 1)
        + relu(n + "1x1")
        + conv(n + "3x3_reduce", bottom, three_in, 1)
        + relu(n + "3x3_reduce")
        + conv(n + "3x3", n + "3x3_reduce", three, 3, "pad: 1")
        + relu(n + "3x3")
        + conv(n + "5x5_reduce", bottom, five_in, 1)
        + relu(n + "5x5_reduce")
        + conv(n + "5x5", n + "5x5_reduce", five, 5, "pad: 2")
        + relu(n + "5x5")
        + pool(n + "pool", bottom, 3, 1, "pad: 1")
        + conv(n + "pool_proj", n + "pool", pooled, 1)
        + relu(n + "pool_proj")
        + layer(n + "output", "Concat", f"{n}1x1 {n}3x3 {n}5x5 {n}pool_proj", n + "output")
    )


def _side_loss(name: str, bottom: str) -> str:
    n = f"{name}/"
    return (
        pool(n + "ave_pool", bottom, 5, 3, "pool: AVE")
        + conv(n + "conv", n + "ave_pool", 128, 1)
        + relu(n + "conv")
        + full(n + "fc", n + "conv", 1024)
        + relu(n + "fc")
        + layer(n + "drop", "Dropout", n + "fc", n + "fc", "dropout_param { dropout_ratio: 0.7 }")
        + full(n + "classifier", n + "fc", 1000)
        + layer(
            n + "loss", "SoftmaxWithLoss", f"{n}classifier label", n + "loss", "loss_weight: 0.3"
        )
    )


def googlenet(batch: int = 2) -> str:
    """GoogLeNet (Szegedy et al. 2014) with its two side losses: 13,378,280 parameters."""
    norm = "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"
    text = (
        'name: "GoogLeNet"\n'
        + inputs(data=(batch, 3, 224, 224), label=(batch,))
        + conv("conv1", "data", 64, 7, "pad: 3 stride: 2")
        + relu("conv1")
        + pool("pool1", "conv1", 3, 2)
        + layer("norm1", "LRN", "pool1", "norm1", norm)
        + conv("conv2_reduce", "norm1", 64, 1)
        + relu("conv2_reduce")
        + conv("conv2", "conv2_reduce", 192, 3, "pad: 1")
        + relu("conv2")
        + layer("norm2", "LRN", "conv2", "norm2", norm)
        + pool("pool2", "norm2", 3, 2)
    )
    blocks = {
        "3a": (64, 96, 128, 16, 32, 32),
        "3b": (128, 128, 192, 32, 96, 64),
        "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128),
        "5a": (256, 160, 320, 32, 128, 128),
        "5b": (384, 192, 384, 48, 128, 128),
    }
    bottom = "pool2"
    for name, sizes in blocks.items():
        if name in ("4a", "5a"):
            text += pool(f"pool{name}", bottom, 3, 2)
            bottom = f"pool{name}"
        text += _inception(name, bottom, sizes)
        bottom = f"{name}/output"
        if name in ("4a", "4d"):
            text += _side_loss(f"loss{name}", bottom)
    return (
        text
        + pool("pool5", bottom, 7, 1, "pool: AVE")
        + layer("drop", "Dropout", "pool5", "pool5", "dropout_param { dropout_ratio: 0.4 }")
        + full("classifier", "pool5", 1000)
        + layer("loss3", "SoftmaxWithLoss", "classifier label", "loss3", "loss_weight: 1")
    )


def squeezenet(batch: int = 2) -> str:
    """SqueezeNet 1.0 (Iandola et al. 2016): 1,248,424 parameters."""
    text = (
        'name: "SqueezeNet"\n'
        + inputs(data=(batch, 3, 227, 227), label=(batch,))
        + conv("conv1", "data", 96, 7, "stride: 2")
        + relu("conv1")
        + pool("pool1", "conv1", 3, 2)
    )
    bottom = "pool1"
    for k, (squeezed, expanded) in enumerate(
        [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)], 2
    ):
        n = f"fire{k}/"
        text += conv(n + "squeeze", bottom, squeezed, 1) + relu(n + "squeeze")
        text += conv(n + "1x1", n + "squeeze", expanded, 1) + relu(n + "1x1")
        text += conv(n + "3x3", n + "squeeze", expanded, 3, "pad: 1") + relu(n + "3x3")
        text += layer(n + "concat", "Concat", f"{n}1x1 {n}3x3", n + "concat")
        bottom = n + "concat"
        if k in (4, 8):
            text += pool(f"pool{k}", bottom, 3, 2)
            bottom = f"pool{k}"
    return (
        text
        + layer("drop9", "Dropout", bottom, bottom, "dropout_param { dropout_ratio: 0.5 }")
        + conv("conv10", bottom, 1000, 1)
        + relu("conv10")
        + layer(
            "pool10",
            "Pooling",
            "conv10",
            "pool10",
            "pooling_param { pool: AVE global_pooling: true }",
        )
        + layer("loss", "SoftmaxWithLoss", "pool10 label", "loss")
    )


def cifar10_quick(batch: int = 4) -> str:
    """Caffe's quick net for CIFAR-10 (Krizhevsky): 145,578 parameters."""
    return (
        'name: "CIFAR10_quick"\n'
        + inputs(data=(batch, 3, 32, 32), label=(batch,))
        + conv("conv1", "data", 32, 5, "pad: 2")
        + pool("pool1", "conv1", 3, 2)
        + relu("pool1")
        + conv("conv2", "pool1", 32, 5, "pad: 2")
        + relu("conv2")
        + pool("pool2", "conv2", 3, 2, "pool: AVE")
        + conv("conv3", "pool2", 64, 5, "pad: 2")
        + relu("conv3")
        + pool("pool3", "conv3", 3, 2, "pool: AVE")
        + full("ip1", "pool3", 64)
        + full("ip2", "ip1", 10)
        + layer("loss", "SoftmaxWithLoss", "ip2 label", "loss")
    )


def cifar10_full(batch: int = 4) -> str:
    """Caffe's full net for CIFAR-10, with normalisation within channels: 89,578 parameters."""
    norm = "lrn_param { local_size: 3 alpha: 5e-05 beta: 0.75 norm_region: WITHIN_CHANNEL }"
    return (
        'name: "CIFAR10_full"\n'
        + inputs(data=(batch, 3, 32, 32), label=(batch,))
        + conv("conv1", "data", 32, 5, "pad: 2")
        + pool("pool1", "conv1", 3, 2)
        + relu("pool1")
        + layer("norm1", "LRN", "pool1", "norm1", norm)
        + conv("conv2", "norm1", 32, 5, "pad: 2")
        + relu("conv2")
        + pool("pool2", "conv2", 3, 2, "pool: AVE")
        + layer("norm2", "LRN", "pool2", "norm2", norm)
        + conv("conv3", "norm2", 64, 5, "pad: 2")
        + relu("conv3")
        + pool("pool3", "conv3", 3, 2, "pool: AVE")
        + full("ip1", "pool3", 10)
        + layer("loss", "SoftmaxWithLoss", "ip1 label", "loss")
    )


def autoencoder(batch: int = 4) -> str:
    """Caffe's autoencoder of MNIST (Hinton and Salakhutdinov 2006): 2,837,314 parameters."""
    text = 'name: "MNISTAutoencoder"\n' + inputs(data=(batch, 1, 28, 28))
    text += layer("flatdata", "Flatten", "data", "flatdata")
    bottom = "data"
    for k, size in enumerate((1000, 500, 250, 30, 250, 500, 1000, 784)):
        text += full(f"ip{k}", bottom, size)
        bottom = f"ip{k}"
        if k not in (3, 7):
            text += layer(f"s{k}", "Sigmoid", bottom, f"s{k}")
            bottom = f"s{k}"
    return (
        text
        + layer("cross", "SigmoidCrossEntropyLoss", "ip7 flatdata", "cross", "loss_weight: 1")
        + layer("sig", "Sigmoid", "ip7", "sig")
        + layer("euclid", "EuclideanLoss", "sig flatdata", "euclid", "loss_weight: 0")
    )


def dummies(prototxt: str) -> str:
    """The same net on data: inputs become DummyData, random where there is more than a label."""
    filler = 'data_filler { type: "gaussian" std: 0.5 }'

    def dummy(match: re.Match[str]) -> str:
        more = filler if match[3].count("dim") > 1 else "data_filler { value: 1 }"
        return f'{match[1]}"DummyData"{match[2]}dummy_data_param {{ shape {match[3]} {more} }} }}'

    pattern = r'(layer \{ name: "\w+" type: )"Input"(.*?)input_param \{ shape (\{.*?\}) \} \}'
    return re.sub(pattern, dummy, prototxt)


def siamese(batch: int = 8) -> str:
    """Two LeNets with shared weights and a contrastive loss (Hadsell et al. 2006)."""
    text = 'name: "siamese"\n' + inputs(pair=(batch, 2, 28, 28), sim=(batch,))
    text += layer("slice", "Slice", "pair", "data data_p", "slice_param { slice_point: 1 }")
    for end in ("", "_p"):

        def rates(name: str) -> str:
            return (
                f'param {{ name: "{name}_w" lr_mult: 1 }} param {{ name: "{name}_b" lr_mult: 2 }}'
            )

        text += conv("conv1" + end, "data" + end, 20, 5, "", rates("conv1"))
        text += pool("pool1" + end, "conv1" + end, 2, 2)
        text += conv("conv2" + end, "pool1" + end, 50, 5, "", rates("conv2"))
        text += pool("pool2" + end, "conv2" + end, 2, 2)
        text += full("ip1" + end, "pool2" + end, 500, rates("ip1")) + relu("ip1" + end)
        text += full("ip2" + end, "ip1" + end, 10, rates("ip2"))
        text += full("feat" + end, "ip2" + end, 2, rates("feat"))
    return text + layer(
        "loss", "ContrastiveLoss", "feat feat_p sim", "loss", "contrastive_loss_param { margin: 1 }"
    )
