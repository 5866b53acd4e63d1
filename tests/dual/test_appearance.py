import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from crossview.data.batch import Objects
from crossview.detector.ranks import ALONE
from crossview.dual.appearance import AppearanceHead, contrastive_loss, jittered, reid_term
from tests.dual.scenes import random_cameras, street
from tests.side_by_side import side_by_side

SIZE = (40, 80)
CHANNELS = (3, 5)
HERE = torch.tensor([80.0, 80.0])  # whole panoramas


def head(**settings):
    torch.manual_seed(0)
    return AppearanceHead(CHANNELS, **{"dimensions": 6, "channels": 4, "grid": (3, 2), "hidden": 8, **settings})


def maps(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(2, channels, *size, generator=generator)
        for channels, size in zip(CHANNELS, [(5, 10), (3, 5)], strict=True)
    ]


def boxes(*rows):
    return torch.tensor(rows).expand(2, -1, -1)


# --- the head ---


def test_embeddings_have_length_one_and_the_shape_of_the_boxes():
    vectors = head()(maps(), boxes([1.0, 2.0, 20.0, 30.0], [30.0, 5.0, 50.0, 35.0], [0.0, 0.0, 80.0, 40.0]), SIZE, HERE)
    assert vectors.shape == (2, 3, 6)
    assert_close(vectors.norm(dim=-1), torch.ones(2, 3))
    assert not torch.allclose(vectors[0], vectors[1])  # each view has its own features


def test_no_boxes_give_no_embeddings():
    assert head()(maps(), torch.zeros(2, 0, 4), SIZE, HERE).shape == (2, 0, 6)


def test_a_box_across_the_seam_looks_as_it_does_after_a_roll():
    # 16 pixels are two columns of the first map and one of the second, so that rolling the maps is exact.
    across, rolled = boxes([70.0, 5.0, 92.0, 35.0]), boxes([54.0, 5.0, 76.0, 35.0])
    features = maps()
    back = [torch.roll(value, -shift, dims=-1) for value, shift in zip(features, (2, 1), strict=True)]
    embed = head()
    assert_close(embed(features, across, SIZE, HERE), embed(back, rolled, SIZE, HERE))
    turned = across - torch.tensor([80.0, 0.0, 80.0, 0.0])
    assert_close(embed(features, turned, SIZE, HERE), embed(features, across, SIZE, HERE))


def test_an_ordinary_image_does_not_continue_at_its_other_edge():
    features = maps()
    changed = [torch.cat((torch.zeros_like(value[..., :2]), value[..., 2:]), dim=-1) for value in features]
    over_the_edge, flat = boxes([70.0, 5.0, 92.0, 35.0]), torch.full((2,), math.inf)
    embed = head()
    assert_close(embed(features, over_the_edge, SIZE, flat), embed(changed, over_the_edge, SIZE, flat))
    assert not torch.allclose(embed(features, over_the_edge, SIZE, HERE), embed(changed, over_the_edge, SIZE, HERE))


def test_gradients_reach_both_maps_and_every_weight():
    embed, features = head(), [value.requires_grad_() for value in maps()]
    vectors = embed(features, boxes([1.0, 2.0, 20.0, 30.0], [30.0, 5.0, 50.0, 35.0]), SIZE, HERE)
    contrastive_loss(
        embed.similarity(vectors.flatten(0, 1), vectors.flatten(0, 1)),
        torch.tensor([1, 2, 1, 2]),
        torch.tensor([0, 0, 1, 1]),
    ).backward()
    for value in (*features, *embed.parameters()):
        assert value.grad is not None
        assert value.grad.abs().sum() > 0


@pytest.mark.parametrize("settings", [{"dimensions": 0}, {"channels": 0}, {"grid": (0, 2)}, {"hidden": 0}])
def test_sizes_have_to_be_positive(settings):
    with pytest.raises(ValueError, match="1 or more"):
        head(**settings)


# --- jitter ---


@settings(max_examples=50)
@given(st.integers(0, 1000), st.floats(0.0, 0.4))
def test_jitter_moves_every_edge_by_a_share_of_the_side_at_most(seed, share):
    box = torch.tensor([10.0, 20.0, 30.0, 60.0])
    moved = jittered(box, share, torch.Generator().manual_seed(seed))
    assert bool(((moved - box).abs() <= share * torch.tensor([20.0, 40.0, 20.0, 40.0]) + 1e-5).all())
    assert bool((moved[2:] > moved[:2]).all())


def test_no_jitter_changes_nothing():
    box = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    assert torch.equal(jittered(box, 0.0), box)


# --- the loss ---


def test_loss_by_hand():
    # Objects 7 and 8 in view 0, object 7 in view 1. Rows with a partner: the first and the last.
    similarity = torch.tensor([[9.0, 1.0, 2.0], [1.0, 9.0, 0.5], [2.0, 0.5, 9.0]])
    ids, views = torch.tensor([7, 8, 7]), torch.tensor([0, 0, 1])
    first = math.log(math.exp(2.0) / (math.exp(2.0) + math.exp(1.0)))
    last = math.log(math.exp(2.0) / (math.exp(2.0) + math.exp(0.5)))
    assert float(contrastive_loss(similarity, ids, views)) == pytest.approx(-(first + last) / 2)


def test_two_partners_share_the_blame():
    similarity = torch.tensor([[0.0, 3.0, 1.0], [3.0, 0.0, 2.0], [1.0, 2.0, 0.0]])
    ids, views = torch.tensor([7, 7, 7]), torch.tensor([0, 1, 2])
    both = [(3.0, 1.0), (3.0, 2.0), (1.0, 2.0)]
    expected = [sum(math.log(sum(map(math.exp, pair))) - value for value in pair) / 2 for pair in both]
    assert float(contrastive_loss(similarity, ids, views)) == pytest.approx(sum(expected) / 3)


@pytest.mark.parametrize(
    ("ids", "views"),
    [
        ([], []),  # no objects
        ([7], [0]),  # one
        ([7, 8], [0, 1]),  # nothing shared
        ([7, 7], [0, 0]),  # the same identity, but in one view
    ],
)
def test_without_shared_objects_the_loss_is_zero_and_has_a_gradient(ids, views):
    similarity = torch.randn(len(ids), len(ids), requires_grad=True)
    loss = contrastive_loss(similarity, torch.tensor(ids, dtype=torch.int64), torch.tensor(views, dtype=torch.int64))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert similarity.grad is not None
    assert not similarity.grad.any()


def test_loss_passes_gradcheck():
    similarity = torch.randn(5, 5, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(3))
    ids, views = torch.tensor([1, 2, 1, 3, 2]), torch.tensor([0, 0, 1, 1, 1])
    assert torch.autograd.gradcheck(lambda value: contrastive_loss(value, ids, views), similarity)


def test_term_takes_objects_with_an_identity_only():
    camera = random_cameras(1, pairs=2)
    objects = street(2, camera, count=5, unshared=1, anonymous=2)
    vectors = torch.nn.functional.normalize(torch.randn(2, 2, 5, 6, generator=torch.Generator().manual_seed(1)), dim=-1)
    term = reid_term(vectors, lambda a, b: a @ b.T, objects)
    changed = vectors.clone()
    changed[~objects.has_id] = 0.0
    assert float(reid_term(changed, lambda a, b: a @ b.T, objects).classification) == float(term.classification) > 0
    assert float(term.localization) == 0.0


def test_ranks_compare_the_objects_of_all_of_them():
    camera = random_cameras(1, pairs=4)
    objects = street(2, camera, count=5, unshared=1)
    objects.present[3] = False  # a rank without any object
    vectors = torch.nn.functional.normalize(torch.randn(4, 2, 5, 6, generator=torch.Generator().manual_seed(1)), dim=-1)

    def slope(ranks, rows):
        own, scale = vectors[rows].clone().requires_grad_(), torch.tensor(2.0, requires_grad=True)
        share = Objects(*(field[rows] for field in objects))
        term = reid_term(own, lambda a, b: scale * a @ b.T, share, ranks)
        term.classification.backward()
        return own.grad, scale.grad

    shares = [slice(0, 3), slice(3, 4)]
    whole = slope(ALONE, slice(0, 4))
    found = side_by_side(2, lambda ranks: slope(ranks, shares[ranks.rank]))
    torch.testing.assert_close(torch.cat([each[0] for each in found]) / 2, whole[0])
    torch.testing.assert_close((found[0][1] + found[1][1]) / 2, whole[1])
    assert bool(whole[0][0].any())
