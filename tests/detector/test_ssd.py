import pytest
import torch
from torch import nn
from torch.testing import assert_close

from crossview.detector import nnpack, ssd
from crossview.detector.anchors import AnchorGrid
from crossview.detector.backbone import Backbone
from crossview.detector.ssd import SSD, ExtraLayers, L2Normalization
from crossview.detector.vgg import VGG16
from crossview.detector.winograd import WinogradConv2d
from crossview.geometry.boxes import to_corners
from tests.threads import pytorch_threads

SCALES = (0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05)
RATIOS = ((1, 2, 1 / 2), *((1, 2, 1 / 2, 3, 1 / 3),) * 3, (1, 2, 1 / 2), (1, 2, 1 / 2))
STAGES = ((4, 8, 2, 1, 3), (4, 8, 2, 1, 3), (4, 8, 1, 0, 3), (4, 8, 1, 0, 3))
MAPS_300x600 = [(38, 75), (19, 38), (10, 19), (5, 10), (3, 8), (1, 6)]


def narrow(size: tuple[int, int] = (300, 600), classes: int = 2, **arguments) -> SSD:
    torch.manual_seed(0)
    backbone = VGG16(channels=(4, 4, 4, 4, 4), fc_channels=8)
    settings = {"anchors": AnchorGrid(SCALES, RATIOS), "extra_stages": STAGES, **arguments}
    return SSD(backbone, classes, size, **settings)


@pytest.mark.parametrize(
    ("size", "maps", "count"),
    [
        ((300, 600), MAPS_300x600, 17292),
        ((300, 300), [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)], 8732),
    ],
)
def test_shapes(size, maps, count):
    network = narrow(size)
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    with torch.no_grad():
        output = network(images)
        features = network.feature_maps(network.backbone.preprocessing.apply(images))
    assert [tuple(feature.shape[2:]) for feature in features] == maps
    assert output.logits.shape == (2, count, 3)
    assert output.offsets.shape == (2, count, 4)
    assert network.anchors.shape == (count, 4)
    assert network.anchors.dtype == output.logits.dtype == torch.float32
    assert bool(output.logits.isfinite().all())


@pytest.mark.parametrize("heads", ["class_heads", "box_heads"])
@pytest.mark.parametrize("layer", [0, 1, 3, 5])
def test_outputs_come_in_the_order_of_the_anchors(heads, layer):
    # Each head writes the number of its anchor's shape and of the value, by its bias; only one layer is not zero.
    network = narrow()
    values = 3 if heads == "class_heads" else 4
    for number, head in enumerate(getattr(network, heads)):
        nn.init.zeros_(head.weight)
        shapes = head.out_channels // values
        wanted = 10 * (1 + torch.arange(shapes)).repeat_interleave(values) + torch.arange(values).repeat(shapes)
        head.bias.data = wanted.float() if number == layer else torch.zeros(head.out_channels)
    with torch.no_grad():
        output = network(torch.zeros(1, 3, 300, 600))
    found = (output.logits if heads == "class_heads" else output.offsets)[0]
    per_cell = network.class_heads[layer].out_channels // 3
    counts = [rows * columns * (4, 6, 6, 6, 4, 4)[i] for i, (rows, columns) in enumerate(MAPS_300x600)]
    start = sum(counts[:layer])
    rows, columns = MAPS_300x600[layer]
    for row, column, shape in ((0, 0, 0), (rows - 1, columns // 2, 2), (rows // 2, columns - 1, per_cell - 1)):
        anchor = start + (row * columns + column) * per_cell + shape
        assert found[anchor].tolist() == [10 * (1 + shape) + value for value in range(values)]
        # The anchor of this row stands in this cell.
        x, y = network.anchors[anchor, :2].tolist()
        assert (round(x * columns / 600 - 0.5), round(y * rows / 300 - 0.5)) == (column, row)
    assert not found[:start].any()
    assert not found[start + counts[layer] :].any()


class Pixels(Backbone):
    """The image itself, as if it were two feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.out_channels = (3, 3)
        self.preprocessing = VGG16(channels=(1, 1, 1, 1, 1), fc_channels=1).preprocessing

    def forward(self, images):
        return images, images[:, :, ::2, ::2]


def test_outputs_come_from_where_the_anchors_are():
    # A head that passes one pixel on: the one bright pixel must be seen by the anchors of its cell alone.
    network = SSD(Pixels(), 1, (6, 10), AnchorGrid((0.2, 0.4, 0.6), ((1, 2), (1, 2))), (), normalize_first_map=False)
    for heads in (network.class_heads, network.box_heads):
        for parameter in heads.parameters():
            nn.init.zeros_(parameter)
            if parameter.dim() == 4:
                parameter.data[:, 0, 1, 1] = 1.0
    dark = torch.tensor(network.backbone.preprocessing.mean)[:, None, None].expand(3, 6, 10)
    images = dark.clone()[None]
    images[0, 0, 4, 6] += 100
    with torch.no_grad():
        output = network(images)
    for found in (output.logits[0], output.offsets[0]):
        seen = network.anchors[found.abs().amax(dim=1) > 0.1]
        # Cell (4, 6) of the map of 6 x 10, and cell (2, 3) of the map of 3 x 5: three shapes each.
        assert seen[:, :2].tolist() == [[6.5, 4.5]] * 3 + [[7.0, 5.0]] * 3
        corners = to_corners(seen)
        assert bool(((corners[:, 0] < 7) & (corners[:, 2] > 6) & (corners[:, 1] < 5) & (corners[:, 3] > 4)).all())


def test_images_are_standardised_once():
    network = narrow((300, 300))
    images = torch.randint(0, 256, (1, 3, 300, 300), dtype=torch.uint8)
    with torch.no_grad():
        maps = network.feature_maps(network.backbone.preprocessing.apply(images))
        first = network.class_heads[0](maps[0])
        assert torch.equal(network(images).logits[0, :4].flatten(), first[0, :, 0, 0])
        assert torch.equal(network(images).logits, network(images.float()).logits)


def test_first_map_is_normalised_to_the_learned_length():
    normalization = L2Normalization(3)
    features = torch.randn(2, 3, 4, 5) * 7
    torch.testing.assert_close(normalization(features).norm(dim=1), torch.full((2, 4, 5), 20.0))
    torch.testing.assert_close(normalization(features), 20 * features / features.norm(dim=1, keepdim=True))
    normalization.scale.data = torch.tensor([1.0, 2.0, 3.0])
    expected = features / features.norm(dim=1, keepdim=True) * torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    torch.testing.assert_close(normalization(features), expected)
    # A pixel without any feature has no direction.
    assert not normalization(torch.zeros(1, 3, 1, 1)).any()


def test_normalisation_can_be_left_out():
    with_it, without = narrow((300, 300)), narrow((300, 300), normalize_first_map=False)
    images = torch.full((1, 3, 300, 300), 90.0)
    normalised, plain = (
        network.feature_maps(network.backbone.preprocessing.apply(images)) for network in (with_it, without)
    )
    assert not torch.allclose(normalised[0], plain[0])
    for one, other in zip(normalised[1:], plain[1:], strict=True):
        assert torch.equal(one, other)


def test_extra_layers_of_ssd300():
    layers = ExtraLayers(1024, [[256, 512, 2, 1, 3], [128, 256, 2, 1, 3], [128, 256, 1, 0, 3], [128, 256, 1, 0, 3]])
    assert layers.out_channels == [512, 256, 256, 256]
    with torch.no_grad():
        maps = layers(torch.randn(1, 1024, 19, 19))
    assert [tuple(features.shape[1:]) for features in maps] == [
        (512, 10, 10),
        (256, 5, 5),
        (256, 3, 3),
        (256, 1, 1),
    ]
    assert all(float(features.min()) == 0 for features in maps)


def test_ssd512_has_seven_maps():
    stages = [*((4, 8, 2, 1, 3),) * 4, (4, 8, 1, 1, 4)]
    grid = AnchorGrid((0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06), (*RATIOS[:2], *RATIOS[1:]))
    photo = narrow((512, 512), anchors=grid, extra_stages=stages)
    panorama = narrow((512, 1024), anchors=grid, extra_stages=stages)
    with torch.no_grad():
        maps = [tuple(features.shape[2:]) for features in photo.feature_maps(torch.zeros(1, 3, 512, 512))]
        assert maps == [(64, 64), (32, 32), (16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
        assert photo(torch.zeros(1, 3, 512, 512)).logits.shape == (1, 24564, 3)
        maps = [tuple(features.shape[2:]) for features in panorama.feature_maps(torch.zeros(1, 3, 512, 1024))]
        assert maps == [(64, 128), (32, 64), (16, 32), (8, 16), (4, 8), (2, 4), (1, 3)]
        assert panorama(torch.zeros(1, 3, 512, 1024)).offsets.shape == (1, 49132, 4)


def test_gradients_reach_every_parameter():
    network = narrow((300, 300))
    output = network(torch.randint(0, 256, (1, 3, 300, 300), dtype=torch.uint8))
    (output.logits.square().sum() + output.offsets.square().sum()).backward()
    silent = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert silent == []
    assert all(
        bool(parameter.grad.isfinite().all()) for parameter in network.parameters() if parameter.grad is not None
    )


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"images of \(300, 300\) pixels given to a network for \(300, 600\)"):
        narrow()(torch.zeros(1, 3, 300, 300))


def test_anchors_for_another_number_of_maps_are_refused():
    with pytest.raises(ValueError, match="settings for 5 feature maps, the network has 6"):
        narrow(anchors=AnchorGrid(SCALES[:-1], RATIOS[:-1]))


def test_anchors_are_not_part_of_a_checkpoint():
    # They follow from the settings; a checkpoint of other settings must not bring its own.
    assert "anchors" not in narrow((300, 300)).state_dict()


@pytest.mark.parametrize("threads", [1, 2])
def test_images_taken_apart_give_what_they_give_together(threads, monkeypatch):
    network, images = narrow().eval(), torch.randint(0, 256, (3, 3, 300, 600), dtype=torch.uint8)
    with pytorch_threads(threads), torch.inference_mode():
        apart = network(images)
        monkeypatch.setattr(ssd, "MOST_THREADS", 0)
        together = network(images)
    assert_close(apart, together, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "calls"),
    [
        ("nothing", [1, 1]),
        ("training", [2]),
        ("gradients", [2]),
        ("autocast", [2]),
        ("threads", [2]),
        ("no winograd", [2]),
        ("no nnpack", [2]),
        ("channels_last", [2]),
    ],
)
def test_images_are_taken_apart_in_evaluation_only(change, calls, monkeypatch):
    network, seen = narrow().train(change == "training"), []
    for layer in network.modules():
        if isinstance(layer, WinogradConv2d):
            layer.winograd = change != "no winograd"
    if change == "channels_last":
        network.use_memory_format(torch.channels_last)
    monkeypatch.setattr(nnpack, "is_available", lambda: change != "no nnpack")
    outputs = network._outputs

    def counted(images, band=None):
        seen.append(len(images))
        return outputs(images, band)

    monkeypatch.setattr(network, "_outputs", counted)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8 if change == "threads" else 1)
    with torch.set_grad_enabled(change == "gradients"), torch.autocast("cpu", enabled=change == "autocast"):
        network(torch.zeros(2, 3, 300, 600))
    assert seen == calls
