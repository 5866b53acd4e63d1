import math

import torch
from torch.testing import assert_close

from crossview.detector.decode import DetectionDecoder
from crossview.detector.single import SingleSSD
from crossview.detector.ssd import SSDOutput
from crossview.geometry.boxes import encode, to_centers
from tests.dual.scenes import narrow_detector


def test_an_image_gives_what_its_detector_gives():
    detector = narrow_detector()
    images = torch.randint(0, 256, (2, 3, *detector.image_size), dtype=torch.uint8)
    output, expected = SingleSSD(detector)(images), detector(images)
    assert torch.equal(output.logits, expected.logits)
    assert torch.equal(output.offsets, expected.offsets)


def test_outputs_are_single_precision_whatever_the_network_computes_in():
    detector = narrow_detector()
    images = torch.randint(0, 256, (1, 3, *detector.image_size), dtype=torch.uint8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = SingleSSD(detector)(images)
    assert output.logits.dtype == output.offsets.dtype == torch.float32


def test_detections_are_suppressed_around_the_seam_of_a_panorama_only():
    network = SingleSSD(narrow_detector())
    anchors, variances = network.detector.anchors, network.detector.variances
    width = float(network.detector.image_size[1])
    over_left_edge = torch.tensor([-5.0, 20.0, 5.0, 40.0])
    boxes = torch.stack((over_left_edge, over_left_edge + torch.tensor([width, 0.0, width, 0.0])))  # a turn apart
    offsets = torch.zeros(1, len(anchors), 4)
    offsets[0, :2] = encode(to_centers(boxes), anchors[:2], variances)
    logits = torch.zeros(1, len(anchors), 1 + network.detector.num_classes)
    logits[..., 0] = 20.0
    logits[0, :2, 1] = torch.tensor([40.0, 39.0])
    decoder = DetectionDecoder(score_threshold=0.5)
    for period, count in ((width, 1), (math.inf, 2)):
        found = network.detections(SSDOutput(logits, offsets), torch.tensor([period]), decoder)
        assert int(found.present.sum()) == count
        assert_close(found.boxes[0, 0], over_left_edge, atol=1e-3, rtol=0)
