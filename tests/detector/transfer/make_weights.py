"""Detectors of the shape of SSD300 and SSD512 with few channels, and files of theirs in the published layouts.

The layer names are written out here from the published networks, not derived from the code under test. The forward
passes follow the publications too: they say what a file in that layout means.
"""

from typing import Any

import h5py
import torch
from torch.nn import functional

from crossview.detector.anchors import AnchorGrid
from crossview.detector.ssd import SSD, L2Normalization
from crossview.detector.vgg import VGG16

SQUARE = [1, 2, 1 / 2]
WIDE = [1, 2, 1 / 2, 3, 1 / 3]
SIZES: dict[int, Any] = {
    300: {
        "scales": [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
        "ratios": [SQUARE, WIDE, WIDE, WIDE, SQUARE, SQUARE],
        "stages": [[4, 8, 2, 1, 3], [4, 8, 2, 1, 3], [4, 8, 1, 0, 3], [4, 8, 1, 0, 3]],
    },
    512: {
        "scales": [0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06],
        "ratios": [SQUARE, WIDE, WIDE, WIDE, WIDE, SQUARE, SQUARE],
        "stages": [[4, 8, 2, 1, 3], [4, 8, 2, 1, 3], [4, 8, 2, 1, 3], [4, 8, 2, 1, 3], [4, 8, 1, 1, 4]],
    },
}

VGG = [
    "conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3", "conv4_1", "conv4_2", "conv4_3",
    "conv5_1", "conv5_2", "conv5_3", "fc6", "fc7",
]  # fmt: skip
# ssd_keras, models/keras_ssd300.py and keras_ssd512.py: the layers that have weights.
KERAS_EXTRAS = {300: ["conv6_1", "conv6_2", "conv7_1", "conv7_2", "conv8_1", "conv8_2", "conv9_1", "conv9_2"]}
KERAS_EXTRAS[512] = [*KERAS_EXTRAS[300], "conv10_1", "conv10_2"]
KERAS_MAPS = {300: ["conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2"]}
KERAS_MAPS[512] = [*KERAS_MAPS[300], "conv10_2"]
# ssd.pytorch, ssd.py: positions in `vgg`, where ReLUs and pools count too; `extras` are convolutions only.
PYTORCH_VGG = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31, 33]
PYTORCH_EXTRAS = {300: 8, 512: 10}
STRIDES = {300: [2, 2, 1, 1], 512: [2, 2, 2, 2, 1]}
PADDINGS = {300: [1, 1, 0, 0], 512: [1, 1, 1, 1, 1]}


def tiny_ssd(classes, size=300, seed=0, ratios=None, image_size=None, **arguments):
    """A detector whose every parameter is random, so that no two layers can be mixed up unnoticed."""
    torch.manual_seed(seed)
    settings = SIZES[size]
    grid = AnchorGrid(settings["scales"], ratios or settings["ratios"])
    backbone = VGG16(channels=(4, 4, 8, 8, 8), fc_channels=16, winograd=False)  # to compare to the last digits
    detector = SSD(backbone, classes, image_size or (size, size), grid, settings["stages"], **arguments)
    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            spread = 0.01 if name.endswith("bias") else parameter[0].numel() ** -0.5
            parameter.copy_(torch.randn_like(parameter) * spread)
        if isinstance(detector.normalization, L2Normalization):
            detector.normalization.scale.copy_(20 + torch.randn_like(detector.normalization.scale))
    return detector


def random_images(size=300, seed=1):
    return torch.rand((1, 3, size, size), generator=torch.Generator().manual_seed(seed)) * 255


def keras_arrays(detector, size=300):
    """Kernels (height, width, in, out), biases and gamma by layer and kind, under the names of ssd_keras."""
    state = detector.state_dict()
    names = {layer: f"backbone.{layer}" for layer in VGG}
    for number, layer in enumerate(KERAS_EXTRAS[size]):
        names[layer] = f"extras.stages.{number // 2}.{0 if layer.endswith('_1') else 2}"
    for number, layer in enumerate(KERAS_MAPS[size]):
        names[f"{layer}_mbox_conf"] = f"class_heads.{number}"
        names[f"{layer}_mbox_loc"] = f"box_heads.{number}"
    arrays = {("conv4_3_norm", "gamma"): state["normalization.scale"].numpy()}
    for layer, name in names.items():
        arrays[layer, "kernel"] = state[f"{name}.weight"].permute(2, 3, 1, 0).numpy()
        arrays[layer, "bias"] = state[f"{name}.bias"].numpy()
    return arrays


def write_keras(path, detector, size=300, style="{0}/{0}/{1}:0", root="", config=None):
    """Writes weights as Keras does; `style` is where the data set of a layer and kind is."""
    with h5py.File(path, "w") as file:
        for (layer, kind), array in keras_arrays(detector, size).items():
            # The layer names its variable itself: L2Normalization in ssd_keras.
            place = "{0}/{0}_gamma:0" if kind == "gamma" else style
            file[root + place.format(layer, kind)] = array
        for layer in ("input_1", "conv4_3_norm_mbox_priorbox"):  # layers without weights have empty groups
            file.create_group(root + layer)
        if config is not None:
            file.attrs["model_config"] = config


def pytorch_state(detector, size=300):
    """State dict under the names of ssd.pytorch."""
    state = detector.state_dict()
    names = {f"vgg.{index}": f"backbone.{layer}" for index, layer in zip(PYTORCH_VGG, VGG, strict=True)}
    for number in range(PYTORCH_EXTRAS[size]):
        names[f"extras.{number}"] = f"extras.stages.{number // 2}.{2 * (number % 2)}"
    for number in range(len(KERAS_MAPS[size])):
        names |= {f"loc.{number}": f"box_heads.{number}", f"conf.{number}": f"class_heads.{number}"}
    renamed = {f"{key}.{kind}": state[f"{name}.{kind}"] for key, name in names.items() for kind in ("weight", "bias")}
    return {**renamed, "L2Norm.weight": state["normalization.scale"]}


def write_pytorch(path, detector, size=300):
    torch.save(pytorch_state(detector, size), path)


def convolved(x, layer, **settings):
    kernel, bias = layer
    return functional.conv2d(x, kernel, bias, **settings)


def forward(images, layer, names, scale, size):
    """Logits and offsets of the published SSD.

    `layer` gives kernel (OIHW) and bias of a name; `names` are those of VGG16, the extras, class heads and box heads.
    """
    vgg, extras, classes, boxes = names
    x, maps = images, []
    for place, name in enumerate(vgg):
        dilated = {"padding": 6, "dilation": 6} if place == 13 else {"padding": 0 if place == 14 else 1}
        x = functional.relu(convolved(x, layer(name), **dilated))
        if place == 9:
            length = x.pow(2).sum(dim=1, keepdim=True).clamp(min=1e-12).sqrt()
            maps.append(x / length * scale[:, None, None])
        if place in (1, 3, 6, 9):
            x = functional.max_pool2d(x, 2, 2, ceil_mode=True)
        if place == 12:
            x = functional.max_pool2d(x, 3, 1, padding=1)
    maps.append(x)
    for stage, (first, second) in enumerate(zip(extras[::2], extras[1::2], strict=True)):
        x = functional.relu(convolved(x, layer(first)))
        x = convolved(x, layer(second), stride=STRIDES[size][stage], padding=PADDINGS[size][stage])
        x = functional.relu(x)
        maps.append(x)
    outputs = []
    for heads, last in ((classes, None), (boxes, 4)):
        maps_out = [convolved(m, layer(name), padding=1) for m, name in zip(maps, heads, strict=True)]
        last = last or maps_out[0].shape[1] // 4  # the first feature map has four anchors a cell
        outputs.append(torch.cat([out.permute(0, 2, 3, 1).reshape(len(out), -1, last) for out in maps_out], dim=1))
    return outputs


def keras_forward(path, images, size=300):
    """What ssd_keras computes from an .h5: RGB minus its mean, then BGR."""
    found = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda key, item: found.update({key: item[()]}) if isinstance(item, h5py.Dataset) else None)

    def layer(name):
        kernel, bias = (next(v for k, v in found.items() if f"{name}/" in k and kind in k) for kind in ("ker", "bias"))
        return torch.from_numpy(kernel).permute(3, 2, 0, 1), torch.from_numpy(bias)

    scale = torch.from_numpy(next(value for key, value in found.items() if "gamma" in key))
    heads = [[f"{layer}_mbox_{kind}" for layer in KERAS_MAPS[size]] for kind in ("conf", "loc")]
    images = (images - torch.tensor([123.0, 117.0, 104.0])[:, None, None])[:, [2, 1, 0]]
    return forward(images, layer, (VGG, KERAS_EXTRAS[size], *heads), scale, size)


def pytorch_forward(path, images, size=300):
    """What ssd.pytorch computes from a .pth: RGB minus its mean."""
    state = torch.load(path, weights_only=True)
    heads = [[f"{kind}.{number}" for number in range(len(KERAS_MAPS[size]))] for kind in ("conf", "loc")]
    names = [f"vgg.{index}" for index in PYTORCH_VGG], [f"extras.{number}" for number in range(PYTORCH_EXTRAS[size])]
    images = images - torch.tensor([123.0, 117.0, 104.0])[:, None, None]
    return forward(
        images,
        lambda name: (state[f"{name}.weight"], state[f"{name}.bias"]),
        (*names, *heads),
        state["L2Norm.weight"],
        size,
    )


WRITERS = {"ssd_keras": (write_keras, keras_forward), "ssd.pytorch": (write_pytorch, pytorch_forward)}
