import os
from pathlib import Path

import h5py
import pytest
import torch

from crossview.build import ConfigError
from crossview.data.errors import DataError
from crossview.detector.transfer.classes import COCO
from crossview.detector.transfer.load import load_detector_weights
from tests.detector.transfer.make_weights import (
    KERAS_MAPS,
    WIDE,
    WRITERS,
    pytorch_state,
    random_images,
    tiny_ssd,
    write_keras,
    write_pytorch,
)

RATIOS = [4, 6, 6, 6, 4, 4]  # anchors a cell


def outputs(detector, size=300):
    with torch.no_grad():
        return detector(random_images(size))[:2]


def values(detector):
    return {name: value.clone() for name, value in detector.state_dict().items()}


# --- classes ---


@pytest.mark.parametrize("source", WRITERS)
def test_sampled_classes_score_as_their_sources(source, tmp_path):
    write, _ = WRITERS[source]
    write(tmp_path / "coco", tiny_ssd(80))
    trained = tiny_ssd(80)
    trained.backbone.use_preprocessing(load_detector_weights(tiny_ssd(80), tmp_path / "coco", COCO).preprocessing)
    detector = tiny_ssd(3, seed=5)
    report = load_detector_weights(
        detector, tmp_path / "coco", ["fire hydrant", "tree", "sign"], "coco", {"tree": "potted plant"}
    )
    (logits, offsets), (all_logits, all_offsets) = outputs(detector), outputs(trained)
    sources = [0, 1 + COCO.index("fire hydrant"), 1 + COCO.index("potted plant")]
    torch.testing.assert_close(logits[..., :3], all_logits[..., sources], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(offsets, all_offsets, rtol=1e-5, atol=1e-5)
    assert (logits[..., 3:] - all_logits).abs().amax(dim=(0, 1)).min() > 0.1  # like none of the sources
    assert report.classes == (("fire hydrant", "fire hydrant"), ("tree", "potted plant"), ("sign", None))
    assert report.sampled == tuple(f"class_heads.{number}" for number in range(6))
    assert not set(report.sampled) & set(report.copied)


def test_a_class_without_a_source_keeps_its_start(tmp_path):
    write_pytorch(tmp_path / "w.pth", tiny_ssd(20))
    detector = tiny_ssd(2, seed=5)
    before = values(detector)
    load_detector_weights(detector, tmp_path / "w.pth", ["car", "tree"], "voc")
    for number, anchors in enumerate(RATIOS):
        for kind in ("weight", "bias"):
            name = f"class_heads.{number}.{kind}"
            new, old = (state[name].unflatten(0, (anchors, 3)) for state in (detector.state_dict(), before))
            assert torch.equal(new[:, 2], old[:, 2])
            assert not torch.equal(new[:, 0], old[:, 0])


@pytest.mark.parametrize(
    ("mine", "arguments", "message"),
    [
        (["tree"], {}, r"has 3 classes, the network has 1 \(tree\).*init\.source_classes.*init\.class_map=\{tree:"),
        (["tree"], {"class_map": {"tree": "b"}}, r"init\.source_classes"),
        (["a", "b", "tree"], {"class_map": {"tree": "c"}}, r"init\.source_classes"),  # names are not known
        (["tree"], {"source_classes": "voc"}, r"init\.source_classes: found 20 names.* have 3 classes"),
        (["tree"], {"source_classes": ["a", "b", "c"]}, r"init\.class_map: none of the classes"),
    ],
)
def test_classes_that_cannot_be_matched_change_nothing(mine, arguments, message, tmp_path):
    write_pytorch(tmp_path / "w.pth", tiny_ssd(3))
    detector = tiny_ssd(len(mine), seed=5)
    before = values(detector)
    with pytest.raises(ConfigError, match=message):
        load_detector_weights(detector, tmp_path / "w.pth", mine, **arguments)
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


def test_unnamed_classes_of_the_same_number_keep_their_order(tmp_path):
    write_pytorch(tmp_path / "w.pth", tiny_ssd(2))
    report = load_detector_weights(tiny_ssd(2, seed=5), tmp_path / "w.pth", ["tree", "sign"])
    assert report.classes == (("tree", "the file's class 1"), ("sign", "the file's class 2"))
    assert report.sampled == ()


# --- anchors ---


def test_anchors_in_another_order_are_followed(tmp_path):
    mixed = [1, 3, 1 / 3, 2, 0.5]  # published: 1, 1, 2, 1/2, 3, 1/3
    ratios = [[0.5, 1, 2], *[mixed] * 3, [1, 2, 0.5], [1, 2, 0.5]]
    write_pytorch(tmp_path / "w.pth", tiny_ssd(2))
    source, detector = tiny_ssd(2), tiny_ssd(2, seed=5, ratios=ratios)
    report = load_detector_weights(detector, tmp_path / "w.pth", ["a", "b"])
    source.backbone.use_preprocessing(report.preprocessing)
    assert report.notes == ()
    # Sorted by place and shape, both are the same anchors with the same outputs.
    rows = []
    for network in (source, detector):
        logits, offsets = outputs(network)
        table = torch.cat((network.anchors.expand(1, -1, -1), logits, offsets), dim=-1)[0].double()
        keys = (table[:, :4] * 100).round() @ torch.tensor([1e9, 1e6, 1e3, 1.0], dtype=torch.float64)
        rows.append(table[keys.argsort()])
    assert not torch.equal(source.anchors, detector.anchors)
    torch.testing.assert_close(rows[0], rows[1], rtol=1e-4, atol=1e-4)


def test_other_ratios_are_taken_in_order_and_said(tmp_path):
    write_pytorch(tmp_path / "w.pth", tiny_ssd(2))
    detector = tiny_ssd(2, ratios=[[1, 1.5, 0.7], *[WIDE] * 3, [1, 2, 0.5], [1, 2, 0.5]])
    report = load_detector_weights(detector, tmp_path / "w.pth", ["a", "b"])
    assert report.notes == (
        "feature map 0: aspect ratios 1, 1, 2, 0.5 in the file, 1, 1, 1.5, 0.7 here, taken in order",
    )


@pytest.mark.parametrize("write", [write_keras, write_pytorch])
def test_another_number_of_anchors_names_the_layer(write, tmp_path):
    write(tmp_path / "w", tiny_ssd(2))
    detector = tiny_ssd(2, ratios=[WIDE] * 6)
    with pytest.raises(
        DataError, match=r"box_heads\.0\.\w+ \(key .*found 4 anchors in a cell of feature map 0, expected 6"
    ):
        load_detector_weights(detector, tmp_path / "w", ["a", "b"])


# --- other networks ---


def test_a_deeper_network_leaves_its_last_layers_at_random(tmp_path):
    ratios = [[1, 2, 0.5], *[WIDE] * 3, *[[1, 2, 0.5]] * 3]
    write_keras(tmp_path / "ssd300.h5", tiny_ssd(2))
    report = load_detector_weights(tiny_ssd(2, 512, ratios=ratios), tmp_path / "ssd300.h5", ["a", "b"])
    assert report.random == ("extras.stages.4.0", "extras.stages.4.2", "class_heads.6", "box_heads.6")


def test_what_a_shallower_network_cannot_use_is_listed(tmp_path):
    ratios = [[1, 2, 0.5], *[WIDE] * 4, [1, 2, 0.5]]
    write_keras(tmp_path / "ssd512.h5", tiny_ssd(2, 512), 512)
    with h5py.File(tmp_path / "ssd512.h5", "a") as file:
        file["classes/kernel:0"] = torch.zeros(2, 2).numpy()
    report = load_detector_weights(tiny_ssd(2, ratios=ratios), tmp_path / "ssd512.h5", ["a", "b"])
    assert len(report.unused) == 2 * 4 + 1
    assert {"conv10_1/conv10_1/kernel:0", "conv10_2_mbox_loc/conv10_2_mbox_loc/bias:0", "classes/kernel:0"} < set(
        report.unused
    )


def test_without_normalisation_its_scale_is_unused(tmp_path):
    write_pytorch(tmp_path / "w.pth", tiny_ssd(2))
    report = load_detector_weights(tiny_ssd(2, normalize_first_map=False), tmp_path / "w.pth", ["a", "b"])
    assert report.unused == ("L2Norm.weight",)


def test_overrides_of_the_standardisation_stay(tmp_path):
    write_pytorch(tmp_path / "w.pth", tiny_ssd(2))
    detector = tiny_ssd(2)
    detector.backbone._overrides = ((1, 2, 3), None, None)
    load_detector_weights(detector, tmp_path / "w.pth", ["a", "b"])
    assert detector.backbone.preprocessing.mean == (1, 2, 3)
    assert detector.backbone.preprocessing.std == (1, 1, 1)


def without(*keys):
    return lambda state: {key: value for key, value in state.items() if key not in keys}


def replaced(key, value):
    return lambda state: {**state, key: value}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("vgg.33.bias"), r"1 of the backbone's 30 tensors .*ssd\.pytorch\): backbone\.fc7\.bias"),
        (without("extras.1.bias"), r"extras\.stages\.0\.2\.bias is not in the file .* expected whole layers"),
        (replaced("vgg.5.weight", torch.zeros(5, 4, 3, 3)), r"key vgg\.5\.weight.*\(5, 4, 3, 3\).*\(4, 4, 3, 3\)"),
        (replaced("vgg.5.bias", torch.zeros(4, 1)), r"conv2_1\.bias.*\(4, 1\).*\(4,\)"),
        (replaced("extras.3.weight", torch.zeros(8, 4, 1, 1)), r"extras\.stages\.1\.2\.weight"),
        (replaced("conf.2.weight", torch.zeros(18, 9, 3, 3)), r"class_heads\.2\.weight.*\(18, 9, 3, 3\)"),
        (replaced("conf.2.bias", torch.zeros(24)), r"class heads .*conf\.2\.weight: 2.*same whole number"),
        (replaced("loc.1.bias", torch.full((24,), float("nan"))), r"box_heads\.1\.bias .*found NaN or infinity"),
        (replaced("L2Norm.weight", torch.zeros(9)), r"normalization\.scale \(key L2Norm\.weight.*\(9,\).*\(8,\)"),
    ],
)  # fmt: skip
def test_unfit_tensors_change_nothing(change, message, tmp_path):
    torch.save(change(pytorch_state(tiny_ssd(2))), tmp_path / "w.pth")
    detector = tiny_ssd(2, seed=5)
    before = values(detector)
    with pytest.raises(DataError, match=message) as caught:
        load_detector_weights(detector, tmp_path / "w.pth", ["a", "b"])
    assert str(tmp_path / "w.pth") in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


class Payload:
    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("key", ["vgg.0.weight", "state_dict"])
def test_code_in_a_file_is_refused_and_not_run(key, tmp_path):
    torch.save({**pytorch_state(tiny_ssd(2)), key: Payload(tmp_path / "trace")}, tmp_path / "w.pth")
    with pytest.raises(DataError, match="code in weights files is not run"):
        load_detector_weights(tiny_ssd(2), tmp_path / "w.pth", ["a", "b"])
    assert not (tmp_path / "trace").exists()


def test_report_is_a_short_table(tmp_path):
    write_keras(tmp_path / "w.h5", tiny_ssd(20))
    report = load_detector_weights(tiny_ssd(2), tmp_path / "w.h5", ["tree", "sign"], "voc", {"tree": "pottedplant"})
    lines = str(report).splitlines()
    assert lines[0] == f"Detector weights, ssd_keras: {tmp_path / 'w.h5'}"
    assert lines[1].startswith("  copied   30  backbone.conv1_1, backbone.conv1_2,")
    assert lines[2] == "  sampled   6  " + ", ".join(f"class_heads.{number}" for number in range(len(KERAS_MAPS[300])))
    assert lines[3] == "  random    0  nothing"
    assert lines[4] == "  unused    0  nothing"
    assert lines[5] == "  classes   2  tree from pottedplant, sign at random"
    assert lines[6] == "  images  bgr, mean (104, 117, 123), std (1, 1, 1)"
