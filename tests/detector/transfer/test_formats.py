"""Files in the published layouts give the published outputs."""

import json

import h5py
import pytest
import torch
from torchvision.models.detection import ssd300_vgg16
from torchvision.models.detection.image_list import ImageList

from crossview.data.errors import DataError
from crossview.detector.anchors import AnchorGrid
from crossview.detector.preprocessing import Preprocessing
from crossview.detector.ssd import SSD
from crossview.detector.transfer.load import load_detector_weights
from crossview.detector.transfer.readers import keras_layers, read_trained_file
from crossview.detector.vgg import VGG16
from crossview.geometry.boxes import to_corners
from tests.detector.transfer.make_weights import (
    KERAS_EXTRAS,
    KERAS_MAPS,
    SIZES,
    VGG,
    WRITERS,
    keras_forward,
    pytorch_state,
    random_images,
    tiny_ssd,
    write_keras,
    write_pytorch,
)

MEANS = {
    "ssd_keras": Preprocessing((104, 117, 123), (1, 1, 1), "bgr"),
    "ssd.pytorch": Preprocessing((123, 117, 104), (1, 1, 1), "rgb"),
}


@pytest.mark.parametrize("size", [300, 512])
@pytest.mark.parametrize("source", WRITERS)
def test_a_file_gives_the_published_outputs(source, size, tmp_path, caplog):
    write, published = WRITERS[source]
    path = tmp_path / "weights.bin"  # the name says nothing
    write(path, tiny_ssd(3, size), size)
    detector = tiny_ssd(3, size, seed=5)
    with caplog.at_level("INFO", logger="crossview.detector"):
        report = load_detector_weights(detector, path, ["a", "b", "c"])
    images = random_images(size)
    with torch.no_grad():
        logits, offsets, *_ = detector(images)
        expected = published(path, images, size)
    assert logits.std() > 0.1
    torch.testing.assert_close(logits, expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(offsets, expected[1], rtol=1e-5, atol=1e-5)
    assert detector.backbone.preprocessing == report.preprocessing == MEANS[source]
    assert report.source == source
    maps = len(KERAS_MAPS[size])
    assert len(report.copied) == len(VGG) + len(KERAS_EXTRAS[size]) + 1 + 2 * maps
    assert (report.sampled, report.random, report.unused, report.notes) == ((), (), (), ())
    assert str(report) in caplog.text


@pytest.mark.parametrize(
    ("style", "root"),
    [
        ("{0}/{0}/{1}:0", ""),  # Keras 2, save_weights
        ("{0}/{0}/{1}:0", "model_weights/"),  # Keras 2, a whole model
        ("{0}/{0}_{1}:0", ""),  # variables that carry the layer's name
        ("{0}/{1}:0", "model_weights/ssd/"),  # nested in another model
    ],
)
def test_styles_of_keras_names(style, root, tmp_path):
    path = tmp_path / "weights.h5"
    source, detector = tiny_ssd(2), tiny_ssd(2, seed=5)
    write_keras(path, source, style=style, root=root)
    if root.startswith("model_weights/"):
        with h5py.File(path, "a") as file:
            file["optimizer_weights/conv1_1/kernel/m:0"] = torch.zeros(3, 3, 3, 4).numpy()
    load_detector_weights(detector, path, ["a", "b"])
    for name, value in source.state_dict().items():
        if not name.endswith("_extra_state"):
            assert torch.equal(detector.state_dict()[name], value), name


def test_every_published_keras_layer_has_its_place():
    # All layers with weights of keras_ssd512.py; SSD300 lacks conv10.
    heads = [f"{layer}_mbox_{kind}" for layer in KERAS_MAPS[512] for kind in ("conf", "loc")]
    assert set(keras_layers()) == {*VGG, *KERAS_EXTRAS[512], "conv4_3_norm", *heads}
    assert len(set(keras_layers().values())) == len(keras_layers())


def full_size(size, classes):
    """A detector with the published channels and without any values."""
    stages = {
        300: [[256, 512, 2, 1, 3], [128, 256, 2, 1, 3], [128, 256, 1, 0, 3], [128, 256, 1, 0, 3]],
        512: [[256, 512, 2, 1, 3], *[[128, 256, 2, 1, 3]] * 3, [128, 256, 1, 1, 4]],
    }
    with torch.device("meta"):
        grid = AnchorGrid(SIZES[size]["scales"], SIZES[size]["ratios"])
        return SSD(VGG16(), classes, (size, size), grid, stages[size])


@pytest.mark.parametrize(
    ("size", "classes", "layer", "shape"),
    [
        (300, 80, "conv4_3_norm_mbox_conf", (3, 3, 512, 324)),  # as printed in the weight sampling tutorial
        (300, 20, "fc7_mbox_conf", (3, 3, 1024, 126)),
        (300, 20, "conv9_2_mbox_loc", (3, 3, 256, 16)),
        (512, 20, "conv9_2_mbox_loc", (3, 3, 256, 16)),
        (512, 20, "conv8_2_mbox_loc", (3, 3, 256, 24)),
        (512, 20, "conv10_2", (4, 4, 128, 256)),
        (512, 20, "fc6", (3, 3, 512, 1024)),
    ],
)
def test_full_size_shapes_are_the_published_ones(size, classes, layer, shape):
    state = full_size(size, classes).state_dict()
    weight = state[f"{keras_layers()[layer]}.weight"]
    assert (*weight.shape[2:], weight.shape[1], weight.shape[0]) == shape


@pytest.mark.parametrize("size", [300, 512])
def test_every_layer_of_a_full_size_detector_has_a_published_name(size):
    layers = {name.rpartition(".")[0] for name in full_size(size, 20).state_dict() if "_extra_state" not in name}
    published = [*VGG, *KERAS_EXTRAS[size], "conv4_3_norm"]
    published += [f"{layer}_mbox_{kind}" for layer in KERAS_MAPS[size] for kind in ("conf", "loc")]
    assert {keras_layers()[name] for name in published} == layers


# --- torchvision ---


@pytest.fixture(scope="module")
def torchvision_ssd():
    torch.manual_seed(3)
    model = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=3).eval()
    with torch.no_grad():
        model.backbone.scale_weight.add_(torch.randn(512))
        for head in model.head.modules():
            if isinstance(head, torch.nn.Conv2d) and head.bias is not None:
                head.bias.normal_(std=0.1)
    return model


def test_torchvision_gives_the_same_logits_offsets_and_anchors(torchvision_ssd, tmp_path):
    path = tmp_path / "ssd300_vgg16.pth"
    torch.save(torchvision_ssd.state_dict(), path)
    stages = [[256, 512, 2, 1, 3], [128, 256, 2, 1, 3], [128, 256, 1, 0, 3], [128, 256, 1, 0, 3]]
    grid = AnchorGrid(SIZES[300]["scales"], SIZES[300]["ratios"], steps=[8, 16, 32, 64, 100, 300])
    # The fast convolutions round too coarsely to compare.
    detector = SSD(VGG16(winograd=False), 2, (300, 300), grid, stages)
    report = load_detector_weights(detector, path, ["a", "b"])
    assert len(report.copied) == 15 + 8 + 1 + 12
    assert (report.sampled, report.random, report.unused, report.notes) == ((), (), (), ())

    images = random_images()
    with torch.no_grad():
        logits, offsets, *_ = detector(images)
        standardised = torchvision_ssd.transform.normalize(images / 255)
        maps = list(torchvision_ssd.backbone(standardised).values())
        heads = torchvision_ssd.head(maps)
        anchors = torchvision_ssd.anchor_generator(ImageList(standardised, [(300, 300)]), maps)[0]
    assert heads["cls_logits"].std() > 0.1
    torch.testing.assert_close(logits, heads["cls_logits"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(offsets, heads["bbox_regression"], rtol=1e-4, atol=1e-4)
    # torchvision cuts default boxes to the size of the image; the others are the same, in the same order.
    uncut = (detector.anchors[:, 2:] <= 300).all(dim=1)
    assert uncut.float().mean() > 0.99
    torch.testing.assert_close(to_corners(detector.anchors)[uncut], anchors[uncut], rtol=1e-4, atol=1e-3)


# --- what a whole Keras model tells about its anchors ---


def model_config(**changes):
    """The description of a model, as far as it is read: its anchor layers."""
    settings = {"two_boxes_for_ar1": True, "variances": [0.1, 0.1, 0.2, 0.2], "coords": "centroids"}
    layers = [{"class_name": "Lambda", "config": {"name": "identity_layer", "function": ["4wEAAAA=", None, None]}}]
    for number, layer in enumerate(KERAS_MAPS[300]):
        own = {
            "name": f"{layer}_mbox_priorbox",
            "aspect_ratios": SIZES[300]["ratios"][number],
            "this_scale": SIZES[300]["scales"][number],
            "next_scale": SIZES[300]["scales"][number + 1],
        }
        layers.append({"class_name": "AnchorBoxes", "config": {**own, **settings, **changes}})
    return json.dumps({"class_name": "Model", "config": {"layers": layers}})


def test_a_whole_model_tells_its_anchors(tmp_path):
    path = tmp_path / "model.h5"
    write_keras(path, tiny_ssd(2), root="model_weights/", config=model_config())
    facts = read_trained_file(path).anchors
    assert facts.scales == SIZES[300]["scales"]
    assert facts.variances == [0.1, 0.1, 0.2, 0.2]
    assert facts.ratios == [[1, *SIZES[300]["ratios"][number]] for number in range(6)]
    assert load_detector_weights(tiny_ssd(2), path, ["a", "b"]).notes == ()


def test_the_order_of_a_whole_models_anchors_is_followed(tmp_path):
    # All maps have the ratios 1/2, 1, 2 with two squares: in ssd_keras's order 1/2, 1, 1, 2, here 1, 1, 2, 1/2.
    path = tmp_path / "model.h5"
    source = tiny_ssd(2, ratios=[[1, 2, 0.5]] * 6)
    write_keras(path, source, config=model_config(aspect_ratios=[0.5, 1.0, 2.0]))
    detector = tiny_ssd(2, seed=5, ratios=[[1, 2, 0.5]] * 6)
    report = load_detector_weights(detector, path, ["a", "b"])
    assert report.notes == ()
    images = random_images()
    with torch.no_grad():
        logits, offsets, *_ = detector(images)
        published = keras_forward(path, images)
    for found, expected in ((logits, published[0]), (offsets, published[1])):
        cells = expected.unflatten(1, (-1, 4))
        torch.testing.assert_close(found.unflatten(1, (-1, 4)), cells[:, :, [1, 2, 3, 0]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coords": "minmax"}, "coded as minmax; expected centroids"),
        ({"variances": [1, 1, 1, 1]}, r"model\.variances=\[1\.0, 1\.0, 1\.0, 1\.0\]"),
        ({"aspect_ratios": None}, "model_config: not as ssd_keras writes it"),
    ],
)
def test_a_whole_model_with_other_boxes_is_refused(changes, message, tmp_path):
    path = tmp_path / "model.h5"
    write_keras(path, tiny_ssd(2), config=model_config(**changes))
    with pytest.raises(DataError, match=message) as caught:
        load_detector_weights(tiny_ssd(2), path, ["a", "b"])
    assert str(path) in str(caught.value)


# --- unfit files ---


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: torch.save({"0.weight": torch.zeros(1)}, path), r"found 0\.weight.*model\.backbone\.weights"),
        (lambda path: torch.save(torch.zeros(1), path), "found Tensor"),
        (lambda path: torch.save({}, path), "found nothing"),
        (lambda path: path.write_text("hello"), "cannot be read as"),
        (lambda path: torch.save({"state_dict": {"model.conv.weight": torch.zeros(1)}}, path), "found state_dict"),
    ],
)
def test_files_of_another_kind(write, message, tmp_path):
    path = tmp_path / "weights"
    write(path)
    with pytest.raises(DataError, match=message) as caught:
        read_trained_file(path)
    assert str(path) in str(caught.value)


def test_vgg16_alone_is_sent_to_its_own_key(tmp_path):
    path = tmp_path / "vgg.h5"
    with h5py.File(path, "w") as file:
        file["conv1_1/conv1_1/kernel:0"] = torch.zeros(3, 3, 3, 4).numpy()
    with pytest.raises(DataError, match=r"found conv1_1.*model\.backbone\.weights"):
        read_trained_file(path)


def test_layers_with_the_suffix_of_two_towers_are_not_taken(tmp_path):
    # Keras's own loading by name silently loads nothing from, or into, such a network.
    path = tmp_path / "weights.h5"
    write_keras(path, tiny_ssd(2), style="{0}__1/{0}__1/{1}:0")
    with pytest.raises(DataError, match="conv1_1__1"):
        read_trained_file(path)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"absent\.h5: no such weights file; nothing is downloaded"):
        read_trained_file(tmp_path / "absent.h5")


@pytest.mark.parametrize("write", [write_keras, write_pytorch])
def test_truncated_files(write, tmp_path):
    path = tmp_path / "weights"
    write(path, tiny_ssd(2))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=str(path)):
        read_trained_file(path)


def test_original_first_kernels_tell_the_channel_order(tmp_path):
    # Caffe's kernel for blue, green and red, in a file of a project that feeds RGB.
    state = pytorch_state(tiny_ssd(2))
    state["vgg.0.weight"][0, :, 0, 0] = torch.tensor([0.42947057, 0.55037946, 0.48001540])
    torch.save(state, tmp_path / "ssd.pth")
    report = load_detector_weights(tiny_ssd(2), tmp_path / "ssd.pth", ["a", "b"])
    assert report.preprocessing == MEANS["ssd_keras"]
