"""The same weights in torchvision's SSD300 and in ours give the same outputs, and the same loss on one image."""

from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import ssd300_vgg16
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from crossview.detector.anchors import AnchorGrid
from crossview.detector.decode import DetectionDecoder, decode_boxes
from crossview.detector.loss import ssd_loss
from crossview.detector.ssd import SSD
from crossview.detector.targets import match_anchors
from crossview.detector.vgg import VGG16
from crossview.geometry.boxes import encode, to_centers, to_corners

CLASSES = 5
MEAN = (255 * 0.48235, 255 * 0.45882, 255 * 0.40784)  # torchvision's figures for 123, 117, 104
VARIANCES = (0.1, 0.1, 0.2, 0.2)
# torchvision lists each ratio with its inverse after it, behind the two squares: our order of these lists, so the
# permutation of the anchors in a cell is the identity.
RATIOS = [[1, 2, 1 / 2], *([[1, 2, 1 / 2, 3, 1 / 3]] * 3), [1, 2, 1 / 2], [1, 2, 1 / 2]]
GRID = AnchorGrid((0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05), RATIOS, steps=(8, 16, 32, 64, 100, 300))
EXTRAS = [[256, 512, 2, 1, 3], [128, 256, 2, 1, 3], [128, 256, 1, 0, 3], [128, 256, 1, 0, 3]]
# Our layers of the backbone by the place of torchvision's: `features` ends with conv4_3, `extra.0` goes on.
BACKBONE = {
    "features.0": "conv1_1",
    "features.2": "conv1_2",
    "features.5": "conv2_1",
    "features.7": "conv2_2",
    "features.10": "conv3_1",
    "features.12": "conv3_2",
    "features.14": "conv3_3",
    "features.17": "conv4_1",
    "features.19": "conv4_2",
    "features.21": "conv4_3",
    "extra.0.1": "conv5_1",
    "extra.0.3": "conv5_2",
    "extra.0.5": "conv5_3",
    "extra.0.7.1": "fc6",
    "extra.0.7.3": "fc7",
}
LAYERS = {
    **{f"backbone.{theirs}": f"backbone.{ours}" for theirs, ours in BACKBONE.items()},
    **{f"backbone.extra.{i + 1}.{j}": f"extras.stages.{i}.{j}" for i in range(4) for j in (0, 2)},
    **{f"head.classification_head.module_list.{i}": f"class_heads.{i}" for i in range(6)},
    **{f"head.regression_head.module_list.{i}": f"box_heads.{i}" for i in range(6)},
}


class Pair:
    """Both networks with the same weights, and what they say to one image."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.theirs = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=1 + CLASSES).eval()
        for layer in self.theirs.backbone.modules():
            if (
                isinstance(layer, nn.Conv2d) and layer.bias is not None
            ):  # torchvision's own start lets the values of the deep maps vanish
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.normal_(layer.bias, std=0.1)
        for layer in self.theirs.head.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:  # outputs of the size of a trained network's
                nn.init.normal_(layer.weight, std=2e-4)
                nn.init.normal_(layer.bias, std=0.5)
        backbone = VGG16(mean=MEAN, std=(1, 1, 1), channel_order="rgb")
        self.ours = SSD(backbone, CLASSES, (300, 300), GRID, EXTRAS, variances=VARIANCES).eval()
        source = self.theirs.state_dict()
        weights = {
            f"{ours}.{part}": source.pop(f"{theirs}.{part}")
            for theirs, ours in LAYERS.items()
            for part in ("weight", "bias")
        }
        weights["normalization.scale"] = source.pop("backbone.scale_weight")
        assert not source  # nothing of theirs is left out
        missing, unexpected = self.ours.load_state_dict(weights, strict=False)
        assert (missing, unexpected) == (["backbone._extra_state"], [])  # nothing of ours is left as it was
        self.image = torch.rand(3, 300, 300, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            images, _ = self.theirs.transform([self.image])
            maps = list(self.theirs.backbone(images.tensors).values())
            self.outputs = self.theirs.head(maps)
            self.their_anchors = self.theirs.anchor_generator(ImageList(images.tensors, [(300, 300)]), maps)[0]
            self.output = self.ours(255 * self.image[None])


@cache
def pair() -> Pair:
    return Pair()


def their_clip(anchors: Tensor) -> Tensor:
    """torchvision's clip: no anchor is wider or higher than the image; where it lies is not looked at."""
    return torch.cat((anchors[:, :2], anchors[:, 2:].clamp(max=300)), dim=1)


def test_anchors_are_the_same_but_for_the_clip():
    anchors = GRID.boxes((300, 300), [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)]).float()
    torch.testing.assert_close(pair().ours.anchors, anchors, rtol=0, atol=0)
    assert len(anchors) == len(pair().their_anchors) == 8732
    torch.testing.assert_close(to_corners(their_clip(anchors)), pair().their_anchors, rtol=0, atol=1e-4)
    # Only the two oblong ones of the last map are larger than the image.
    assert (anchors[:, 2:] > 300).any(dim=1).nonzero().flatten().tolist() == [8730, 8731]


def test_logits_and_offsets_are_the_same():
    for ours, theirs in (
        (pair().output.logits, pair().outputs["cls_logits"]),
        (pair().output.offsets, pair().outputs["bbox_regression"]),
    ):
        assert 0.5 < float(theirs.std()) < 10
        assert float(theirs[0, :400].std(dim=0).min()) > 0.1  # the image has reached the outputs, not only the biases
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_boxes_are_the_same():
    theirs = pair().theirs.box_coder.decode_single(pair().outputs["bbox_regression"][0], pair().their_anchors)
    ours = decode_boxes(pair().output.offsets, their_clip(pair().ours.anchors), VARIANCES)[0]
    torch.testing.assert_close(ours / 300, theirs / 300, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [1, 6])
def test_the_loss_of_one_image_is_the_same(count):
    # torchvision mines three negatives a positive in each image, we over the batch: one image is both.
    generator = torch.Generator().manual_seed(count)
    low = 200 * torch.rand(1, count, 2, generator=generator)
    boxes = torch.cat((low, low + 30 + 60 * torch.rand(1, count, 2, generator=generator)), dim=-1)
    labels = torch.randint(1, 1 + CLASSES, (1, count), generator=generator)
    anchors = their_clip(pair().ours.anchors)
    matches = match_anchors(anchors, boxes, labels, labels == 0)
    positive = matches.labels > 0
    matched = to_centers(boxes[0, matches.objects[positive]])
    targets = encode(matched, anchors[positive[0]], VARIANCES)
    logits, offsets, *_ = pair().output
    ours = ssd_loss(logits, offsets, matches.labels, targets, negatives_per_positive=3, min_negatives=0)
    assert int(positive.sum()) >= 2 * count

    truth = [{"boxes": boxes[0], "labels": labels[0]}]
    matched_numbers = torch.where(positive, matches.objects, -1)
    theirs = pair().theirs.compute_loss(truth, pair().outputs, [pair().their_anchors], list(matched_numbers))
    torch.testing.assert_close(ours.classification, theirs["classification"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.localization, theirs["bbox_regression"], rtol=1e-4, atol=1e-4)
    # torchvision matches the same anchors itself.
    overlaps = pair().theirs.proposal_matcher(box_iou(boxes[0], pair().their_anchors))
    assert torch.equal(overlaps.clamp(min=-1), matched_numbers[0])


def test_detections_are_the_same():
    # torchvision clips the boxes to the image before it suppresses; boxes inside stay as they are.
    scores = 2 * pair().outputs["cls_logits"] / pair().outputs["cls_logits"].std()
    offsets = torch.zeros_like(pair().outputs["bbox_regression"])
    inside = ((pair().their_anchors >= 0) & (pair().their_anchors <= 300)).all(dim=1)
    scores[:, ~inside] = torch.tensor([30.0] + [0.0] * CLASSES)
    theirs = pair().theirs.postprocess_detections(
        {"cls_logits": scores, "bbox_regression": offsets}, [pair().their_anchors], [(300, 300)]
    )[0]
    boxes = decode_boxes(offsets, their_clip(pair().ours.anchors), VARIANCES)
    found, _ = DetectionDecoder(0.01, 0.45, 200)(scores.softmax(dim=-1), boxes)
    assert found.present.sum() == len(theirs["scores"]) == 200
    torch.testing.assert_close(found.scores[0], theirs["scores"])
    torch.testing.assert_close(found.boxes[0], theirs["boxes"], rtol=0, atol=1e-3)
    assert torch.equal(found.labels[0], theirs["labels"])
