"""The networks that are compared: ours out of their configs, torchvision's, both at random weights."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn
from torchvision.models.detection import ssd300_vgg16, ssdlite320_mobilenet_v3_large

from crossview.command import CONFIG_DIR
from crossview.data.batch import PairBatch
from crossview.module import CrossViewModule

SSD, SSDLITE = "ssd300_vgg16", "ssdlite320_mobilenet_v3_large"
NETWORKS = {SSD: ssd300_vgg16, SSDLITE: ssdlite320_mobilenet_v3_large}
# The shape of the networks with next to nothing in them.
TINY_OVERRIDES = (
    "data.image_size=[75,150]",
    "model.backbone.channels=[4,4,8,8,8]",
    "model.backbone.fc_channels=16",
    "model.extra_stages=[[4,8,2,1,3],[4,8,2,1,3],[4,8,1,1,3],[4,8,1,1,3]]",
)
TINY_LITE_OVERRIDES = ("data.image_size=[75,150]", "model.extra_stages=[[4,8,2,1,3],[4,8,2,1,3],[4,8,2,1,3]]")


def composed(model: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The training config of a model."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", overrides=[f"model={model}", *overrides])


def built(model: str, overrides: Sequence[str] = ()) -> CrossViewModule:
    """The module of a model, always with the same random weights."""
    torch.manual_seed(0)
    module: CrossViewModule = instantiate(composed(model, overrides).model, _recursive_=False, _convert_="all")
    return module


def torchvision_network(name: str, size: tuple[int, int] | None = None) -> nn.Module:
    """A detector of torchvision for one class, always with the same random weights.

    Args:
        name: `SSD` or `SSDLITE`.
        size: height and width to which it brings images; None for its own.
    """
    torch.manual_seed(0)
    network: nn.Module = NETWORKS[name](weights=None, weights_backbone=None, num_classes=2)
    if size is not None:
        network.transform.fixed_size = (size[1], size[0])  # type: ignore[union-attr]  # torchvision has width first
    return network


def torchvision_images(batch: PairBatch) -> list[Tensor]:
    """The 2 B images of a batch as torchvision takes them: 0 to 1."""
    return list(batch.images.flatten(0, 1).float() / 255)


def torchvision_targets(batch: PairBatch) -> list[dict[str, Tensor]]:
    """The objects of the 2 B images as torchvision takes them: within the image, where it has no seam."""
    width, height = float(batch.images.shape[-1]), float(batch.images.shape[-2])
    targets = []
    for boxes, labels in zip(batch.objects.boxes.flatten(0, 1), batch.objects.labels.flatten(0, 1), strict=True):
        inside = torch.stack((boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)), dim=-1).flatten(1)
        whole = (inside[:, 2:] - inside[:, :2] > 1).all(dim=1)
        targets.append({"boxes": inside[whole], "labels": labels[whole]})
    return targets


class Candidates(NamedTuple):
    """How sure a detector is: so many of an image's scores are above each of two.

    Attributes:
        low: scores above 0.01, the usual threshold of decoding.
        high: scores above 0.2, the usual threshold of matching.
    """

    low: int
    high: int


TRAINED = Candidates(400, 80)


def make_sure(layers: Sequence[nn.Conv2d], logits: Tensor, wanted: Candidates) -> None:
    """Changes the last layers of a detector at random weights so that it is as sure as a trained one.

    At random weights every anchor of every image is as likely an object as not, which no trained detector says.

    Args:
        layers: that give the logits, background first.
        logits: (B, N, 2) of some images.
        wanted: scores of an image.
    """
    surplus = (logits[..., 1] - logits[..., 0]).flatten().sort(descending=True).values
    low, high = (surplus[min(count * len(logits), len(surplus) - 1)].item() for count in wanted)
    at_low, at_high = (torch.logit(torch.tensor(score)).item() for score in (0.01, 0.2))
    scale = (at_high - at_low) / max(high - low, 1e-6)
    with torch.no_grad():
        for layer in layers:
            layer.weight *= scale
            bias = layer.bias
            assert bias is not None, "the last layers of an SSD have biases"
            bias *= scale
            bias.view(-1, logits.shape[-1])[:, 1] += at_low - scale * low


def make_ours_sure(module: CrossViewModule, batch: PairBatch, wanted: Candidates) -> None:
    """See `make_sure`."""
    with torch.no_grad():
        for detector in module.detectors():
            layers = [layer for layer in detector.class_heads if isinstance(layer, nn.Conv2d)]
            make_sure(layers, detector(batch.images.flatten(0, 1)).logits, wanted)


def make_theirs_sure(network: nn.Module, images: Sequence[Tensor], wanted: Candidates) -> None:
    """See `make_sure`."""
    head = network.get_submodule("head.classification_head")
    found: list[Tensor] = []
    hook = head.register_forward_hook(lambda _, __, output: found.append(output))
    with torch.no_grad():
        network.eval()(list(images))
    hook.remove()
    lasts = [
        [each for each in scale.modules() if isinstance(each, nn.Conv2d)][-1]
        for scale in head.get_submodule("module_list").children()
    ]
    make_sure(lasts, found[0], wanted)
