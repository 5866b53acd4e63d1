import copy
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from crossview.detector.apart import for_each_image
from crossview.detector.efficientnet_lite import EfficientNetLite0
from crossview.detector.folding import FoldedCopy, folded
from crossview.detector.packed_convolution import PackedConv2d, is_available
from tests.threads import pytorch_threads

IMAGES = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def with_statistics(network: nn.Module) -> nn.Module:
    """Gives every normalisation statistics, scales and shifts of its own."""
    generator = torch.Generator().manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.running_mean, layer.bias, layer.running_var, layer.weight):
                assert values is not None
                start = 0.5 if values is layer.running_var or values is layer.weight else -0.5
                values.data.copy_(start + torch.rand(values.shape, generator=generator))
    return network


def small() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with_statistics(network)
    return network.double()


@pytest.fixture(params=[torch.float32, torch.float64], ids=["packed", "folded"])
def network(request):
    """Convolutions are packed in single precision only."""
    torch.manual_seed(2)
    return with_statistics(EfficientNetLite0("imagenet", pyramid_channels=8)).to(request.param).eval()


def images_for(network):
    return IMAGES.to(network.features.conv_stem.weight.dtype)


def maps(network, images=None):
    with torch.no_grad():
        return network(images_for(network) if images is None else images)


def assert_near(found, wanted, single=1e-3):
    """Maps are the same but for rounding, in single precision up to this."""
    relative, absolute = (1e-3, single) if found[0].dtype == torch.float32 else (1e-7, 1e-7)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other.detach(), rtol=relative, atol=absolute)


def test_a_folded_network_gives_the_same_without_normalisations():
    plain = small().eval()
    result = folded(plain)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in result.modules())
    assert_close(result(IMAGES), plain(IMAGES))
    assert isinstance(plain[1], nn.BatchNorm2d)  # it is a copy


def test_a_normalisation_that_follows_no_convolution_is_refused():
    layers: list[nn.Module] = [nn.ReLU(), nn.BatchNorm2d(3)]
    for number, first in enumerate((1, 0)):
        with pytest.raises(ValueError, match=f"{number} of Sequential follows no convolution of its channels"):
            folded(nn.Sequential(*layers[first:]))


def test_inference_gives_what_the_layers_as_they_are_give(network):
    wanted = network(images_for(network))  # with a gradient nothing is folded
    assert wanted[0].requires_grad
    assert_near(maps(network), wanted)
    assert network._for_inference._made is not None


@pytest.mark.skipif(not is_available(), reason="this PyTorch or processor has no packed convolutions")
def test_convolutions_are_packed_in_single_precision(network):
    maps(network)
    convolutions = [layer for layer in network._for_inference._made[1].modules() if isinstance(layer, PackedConv2d)]
    assert len(convolutions) == sum(isinstance(layer, nn.Conv2d) for layer in network.features.modules())
    is_single = network.features.conv_stem.weight.dtype == torch.float32
    assert all((layer._packed is not None) == is_single for layer in convolutions)


def test_what_is_no_number_stays_so(network):
    with torch.no_grad():
        network.features.conv_stem.weight[0, 0, 0, 0] = float("nan")
    assert all(features.isnan().all() for features in maps(network))


@pytest.mark.parametrize("how", ["training", "gradient", "autocast"])
def test_only_inference_outside_of_autocast_is_folded(network, how, monkeypatch):
    monkeypatch.setattr(FoldedCopy, "of", None)
    network.train(how == "training")
    with torch.set_grad_enabled(how == "gradient"), torch.autocast("cpu", enabled=how == "autocast"):
        network.float()(IMAGES.float())
    with pytest.raises(TypeError):
        maps(network.eval())


def change_by_optimizer(network):
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)  # more, and single precision rounds too much
    network(images_for(network))[0].sum().backward()
    optimizer.step()


def change_by_loading(network):
    network.load_state_dict(with_statistics(EfficientNetLite0(pyramid_channels=8)).state_dict())


def change_statistics(network):
    network.features.bn1.running_mean.add_(1.0)


def change_tensors(network):
    network.features.conv_stem.weight.data = 2 * network.features.conv_stem.weight.data


def change_by_fused_optimizer(network):
    # It does not count its changes; a training sets the mode, which an evaluation sets back.
    optimizer = torch.optim.Adam(network.train().parameters(), lr=0.01, fused=True)
    network(images_for(network))[0].sum().backward()
    optimizer.step()
    network.eval()


@pytest.mark.parametrize(
    "change", [change_by_fused_optimizer, change_by_optimizer, change_by_loading, change_statistics, change_tensors]
)
def test_changes_are_noticed(network, change):
    before = maps(network)
    change(network)
    after = maps(network)
    assert not torch.allclose(before[0], after[0])
    assert_near(after, network(images_for(network)))


def test_the_copy_is_made_once(network):
    maps(network)
    made = network._for_inference._made
    maps(network)
    assert network._for_inference._made is made


def test_a_network_can_be_built_and_used_under_inference_mode():
    with torch.inference_mode():
        built = EfficientNetLite0("imagenet").eval()
        found = built(IMAGES.float())
    wanted = EfficientNetLite0("imagenet").eval()(IMAGES.float())
    assert_near(found, wanted, single=1e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
def test_a_network_can_be_traced(network):
    plain = EfficientNetLite0("imagenet").eval()
    with torch.no_grad():
        traced = torch.jit.trace(plain, IMAGES.float())
        assert_near(traced(IMAGES.float()), plain(IMAGES.float()), single=1e-4)


def test_views_of_two_threads_are_those_of_one(network):
    images = torch.cat((IMAGES, IMAGES.flip(3))).float()
    network.float()
    with pytorch_threads(2), torch.no_grad():
        apart = for_each_image(network, images)
    for number, found in enumerate(apart):
        assert_near(found, maps(network, images[number : number + 1]), single=1e-4)  # threads round differently


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_a_copied_network_has_a_copy_of_its_own(network, copied):
    maps(network)
    names = list(network.state_dict())
    other = copied(network)
    assert other._for_inference._made is None
    assert list(other.state_dict()) == names
    assert not any("_for_inference" in name for name in names)
    for one, same in zip(maps(other), maps(network), strict=True):
        assert torch.equal(one, same)


def test_it_works_under_inference_mode_and_after_it(network):
    with torch.inference_mode():
        first = network(images_for(network))
    for one, other in zip(first, maps(network), strict=True):
        assert torch.equal(one, other)
    network.train()
    sum(features.sum() for features in network(images_for(network))).backward()
    assert network.features.conv_stem.weight.grad is not None
