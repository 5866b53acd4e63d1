import math
from typing import Any, NamedTuple, TypeVar

import pytest
import torch
from torch import Tensor

from crossview.data.batch import Objects
from crossview.detector.band import Band
from crossview.detector.decode import decode_boxes
from crossview.detector.loss import LossTerms
from crossview.detector.ranks import Ranks
from crossview.detector.targets import NEUTRAL, AnchorMatches
from crossview.dual.criterion import TERMS, DualCriterion
from crossview.dual.dual_ssd import DualOutput
from crossview.dual.head import Placement, ProjectionHead, ResidualHead
from crossview.geometry.boxes import encode, to_centers, to_corners
from crossview.geometry.camera import Camera, period
from tests.dual.scenes import SIZE, VARIANCES, narrow_detector, random_cameras, street, train_head

ANCHORS = narrow_detector().anchors
EVERYTHING: dict[str, Any] = {"min_negatives": 10**6}  # every background anchor counts, so that losses of pairs add up


Fields = TypeVar("Fields", Objects, Camera, Placement)


def pairs_of(batch: Fields, number: int) -> Fields:
    """The same named tuple with pair ``number`` alone."""
    return type(batch)(*(field[number : number + 1] for field in batch))


def swapped(batch: Fields) -> Fields:
    """The same named tuple with view 2 first."""
    return type(batch)(*(field.flip(1) for field in batch))


def head_for(camera: Camera, trained: bool) -> ProjectionHead:
    torch.manual_seed(2)
    head = ResidualHead(SIZE, VARIANCES, hidden=16).to(camera.yaw.dtype)
    if trained:
        train_head(head)
    return head


class Said(NamedTuple):
    """What the network says, given what its detector says."""

    output: DualOutput
    placements: tuple[Placement, Placement]


def output_of(logits: Tensor, offsets: Tensor, camera: Camera, trained: bool = False) -> Said:
    output = DualOutput(logits, offsets, decode_boxes(offsets, ANCHORS.to(offsets), VARIANCES))
    head, first, second = head_for(camera, trained), camera.view(0), camera.view(1)
    boxes, score = output.boxes, output.objectness
    return Said(output, (head(first, second, boxes[:, 0], score[:, 0]), head(second, first, boxes[:, 1], score[:, 1])))


def random_output(seed: int, camera: Camera, trained: bool = True) -> Said:
    generator = torch.Generator().manual_seed(seed)
    shape = (len(camera.yaw), 2, len(ANCHORS))
    logits = torch.randn(*shape, 3, generator=generator).to(camera.yaw.dtype)
    offsets = 0.3 * torch.randn(*shape, 4, generator=generator).to(camera.yaw.dtype)
    return output_of(logits, offsets, camera, trained)


def perfect_output(criterion: DualCriterion, objects: Objects, camera: Camera) -> tuple[Said, list[AnchorMatches]]:
    """A detector that is sure and exact about every anchor's object."""
    anchors = ANCHORS.to(camera.yaw.dtype)
    views = [Objects(*(field[:, i] for field in objects)) for i in range(2)]
    matches = [criterion.match(anchors, views[i], period(camera)[:, i]) for i in range(2)]
    offsets = torch.zeros(len(camera.yaw), 2, len(anchors), 4, dtype=anchors.dtype)
    logits = torch.zeros(len(camera.yaw), 2, len(anchors), 3, dtype=anchors.dtype)
    for i in range(2):
        image, anchor = (matches[i].labels > 0).nonzero(as_tuple=True)
        boxes = to_centers(views[i].boxes[image, matches[i].objects[image, anchor]])
        offsets[image, i, anchor] = encode(boxes, anchors[anchor], VARIANCES, period(camera)[image, i])
        logits[:, i].scatter_(2, matches[i].labels.clamp(min=0).unsqueeze(-1), 100.0)
    return output_of(logits, offsets, camera), matches


def values(terms: dict[str, LossTerms]) -> dict[str, tuple[float, float]]:
    return {name: (float(term.classification), float(term.localization)) for name, term in terms.items()}


def run(criterion: DualCriterion, said: Said, objects: Objects, camera: Camera) -> dict[str, tuple[float, float]]:
    with torch.no_grad():
        return values(criterion(*said, objects, camera, ANCHORS.to(camera.yaw.dtype), VARIANCES, SIZE[1]))


# Values


def test_anchors_are_not_matched_around_a_panorama_on_a_larger_canvas():
    whole = random_cameras(3, 2, dtype=torch.float64)
    objects = street(3, whole, count=6)
    objects.present[:, :, 1:] = False
    # As large as an anchor, of which there are others a turn to the right, beside the panorama.
    half = objects._replace(boxes=objects.boxes * 0 + torch.tensor([12.0, 20.0, 39.75, 47.75], dtype=torch.float64))
    canvas = whole._replace(scale=whole.scale * torch.tensor([2.0, 1.0], dtype=torch.float64))
    said = output_of(
        torch.randn(2, 2, len(ANCHORS), 3, dtype=torch.float64),
        torch.zeros(2, 2, len(ANCHORS), 4, dtype=torch.float64),
        canvas,
    )
    criterion = DualCriterion()
    found = run(criterion, said, half, canvas)
    for i, name in enumerate(TERMS[:2]):
        view = Objects(*(field[:, i] for field in half))
        endless = torch.full((2,), math.inf, dtype=torch.float64)
        matches = criterion.match(ANCHORS.double(), view, endless)
        assert int((criterion.match(ANCHORS.double(), view, period(canvas)[:, i]).labels > 0).sum()) > int(
            (matches.labels > 0).sum()
        ), "going around finds more, beside the panorama"
        term = criterion.view_term(
            said.output.logits[:, i], said.output.offsets[:, i], matches, view, ANCHORS.double(), VARIANCES, endless
        )
        assert found[name] == pytest.approx((float(term.classification), float(term.localization)))


def test_exact_boxes_are_exactly_placed_in_the_other_view():
    camera = random_cameras(0, 3, dtype=torch.float64)
    objects = street(0, camera, count=6, unshared=2)
    criterion = DualCriterion()
    said, matches = perfect_output(criterion, objects, camera)
    found = run(criterion, said, objects, camera)
    assert list(found) == list(TERMS)
    for i, name in enumerate(TERMS[:2]):
        assert found[name] == pytest.approx((0, 0), abs=1e-8)
        assert int((matches[i].labels > 0).sum()) >= 18
    for i, name in enumerate(TERMS[2:]):
        classification, localization = found[name]
        assert localization == pytest.approx(0, abs=1e-8)
        # Co-visibility is at its start: log 2 for each shared one, each unshared one, and three background anchors a
        # shared one, divided by the shared ones.
        matched = matches[i].labels > 0
        ids = objects.ids[:, i].gather(1, matches[i].objects)
        shared = int((matched & (ids < 1000)).sum())
        unshared = int((matched & (ids > 1000)).sum())
        assert min(shared, unshared) >= 6
        assert classification == pytest.approx((4 * shared + unshared) / shared * math.log(2))


def test_targets_of_a_direction_are_the_boxes_of_the_other_view():
    # The placed boxes are taken from the answer: view j's boxes, found by identity, in another order there.
    camera = random_cameras(1, 2)
    objects = street(1, camera, count=4, unshared=0)
    order = torch.tensor([2, 0, 3, 1])
    second = [field[:, 1][:, order] for field in objects]
    objects = Objects(*(torch.stack((field[:, 0], other), 1) for field, other in zip(objects, second, strict=True)))
    criterion = DualCriterion()
    said, matches = perfect_output(criterion, objects, camera)
    inverse = torch.argsort(order)
    answers = []
    for i in range(2):
        number = (inverse if i == 0 else order)[matches[i].objects]
        boxes = objects.boxes[:, 1 - i].gather(1, number.unsqueeze(-1).expand(-1, -1, 4))
        everywhere = torch.ones_like(number).bool()
        answers.append(Placement(boxes, everywhere, boxes, everywhere, torch.zeros(number.shape)))
    right = run(criterion, said._replace(placements=(answers[0], answers[1])), objects, camera)
    assert [right[name][1] for name in TERMS[2:]] == pytest.approx([0, 0], abs=1e-6)
    wrong = run(criterion, said._replace(placements=(answers[1], answers[0])), objects, camera)
    assert min(wrong[name][1] for name in TERMS[2:]) > 1


def test_each_direction_goes_around_the_seam_of_the_view_it_points_to():
    # View 2 shows twice the pixels: a period of 300, where a box moved by 300 pixels is the same box.
    camera = random_cameras(2, 1)
    wide = camera._replace(scale=camera.scale * torch.tensor([1.0, 0.5])[:, None])
    assert period(wide).tolist()[0] == pytest.approx([150, 300])
    objects = street(2, wide, count=4, unshared=0)
    criterion = DualCriterion()
    said, matches = perfect_output(criterion, objects, wide)
    answers = []
    for i in range(2):
        boxes = objects.boxes[:, 1 - i].gather(1, matches[i].objects.unsqueeze(-1).expand(-1, -1, 4))
        around = float(period(wide)[0, 1 - i])
        boxes = boxes + torch.tensor([around, 0, around, 0])
        number = matches[i].objects
        everywhere = torch.ones_like(number).bool()
        answers.append(Placement(boxes, everywhere, boxes, everywhere, torch.zeros(number.shape)))
    found = run(criterion, said._replace(placements=(answers[0], answers[1])), objects, wide)
    assert [found[name] for name in TERMS[:2]] == [pytest.approx((0, 0), abs=1e-6)] * 2
    assert [found[name][1] for name in TERMS[2:]] == pytest.approx([0, 0], abs=1e-5)


def test_exchanging_the_views_exchanges_the_terms():
    camera = random_cameras(3, 2, dtype=torch.float64)
    objects, said = street(3, camera, anonymous=1), random_output(3, camera)
    (logits, offsets, boxes, _), placements = said
    exchanged = Said(DualOutput(logits.flip(1), offsets.flip(1), boxes.flip(1)), placements[::-1])
    before = run(DualCriterion(), said, objects, camera)
    after = run(DualCriterion(), exchanged, swapped(objects), swapped(camera))
    for name, other in zip(TERMS, ("view_2", "view_1", "view_2_to_1", "view_1_to_2"), strict=True):
        assert after[name] == pytest.approx(before[other], rel=1e-12)
    assert len(set(before.values())) == 4


def test_a_batch_is_the_sum_of_its_pairs():
    camera = random_cameras(4, 3, dtype=torch.float64)
    objects, said = street(4, camera, count=5, anonymous=1), random_output(4, camera)
    # An empty pair beside full ones, and objects missing in one view.
    objects.present[1] = False
    objects.present[2, 1, 3:] = False
    criterion = DualCriterion(**EVERYTHING)
    seen: list[float] = []

    class Undivided(Ranks):
        def total(self, values: Tensor) -> Tensor:  # of positives and images, in the order of the terms
            seen.append(float(values[0]))
            return values.new_tensor([1, int(values[1])])

    def sums(said: Said, objects: Objects, camera: Camera) -> dict[str, tuple[float, float]]:
        with torch.no_grad():
            return values(criterion(*said, objects, camera, ANCHORS.double(), VARIANCES, SIZE[1], Undivided()))

    together = sums(said, objects, camera)
    positives = seen[:4]
    singles = []
    for i in range(3):
        alone = Said(
            DualOutput(said.output.logits[i : i + 1], said.output.offsets[i : i + 1], said.output.boxes[i : i + 1]),
            (pairs_of(said.placements[0], i), pairs_of(said.placements[1], i)),
        )
        singles.append(sums(alone, pairs_of(objects, i), pairs_of(camera, i)))
    assert [sum(seen[4 + term :: 4]) for term in range(4)] == positives
    assert min(positives) > 3
    for name in TERMS:
        for part in range(2):
            assert together[name][part] == pytest.approx(sum(single[name][part] for single in singles), rel=1e-9)
    # Without the reduction, each is divided by the positives of the whole batch.
    divided = run(criterion, said, objects, camera)
    for name, number in zip(TERMS, positives, strict=True):
        assert divided[name] == pytest.approx(tuple(value / number for value in together[name]), rel=1e-6)


# What counts


@pytest.mark.parametrize("anonymous", [0, 2])
def test_objects_without_identity_say_nothing_about_the_other_view(anonymous):
    camera = random_cameras(5, 1, dtype=torch.float64)
    objects = street(5, camera, count=4, unshared=0, anonymous=anonymous)
    criterion = DualCriterion(negatives_per_positive=0, min_negatives=0)
    said, matches = perfect_output(criterion, objects, camera)
    sure = torch.full_like(said.placements[0].covisibility, -50.0)
    said = said._replace(
        placements=(
            said.placements[0]._replace(covisibility=sure),
            said.placements[1]._replace(covisibility=sure),
        )
    )
    found = run(criterion, said, objects, camera)
    # Every shared positive costs 50, and nothing else does: their mean is 50 whatever their number.
    assert [found[name][0] for name in TERMS[2:]] == pytest.approx([50, 50])
    assert int((matches[0].labels > 0).sum()) > 0


@pytest.mark.parametrize("use_difficult", [True, False])
def test_difficult_objects(use_difficult):
    camera = random_cameras(6, 1)
    objects = street(6, camera, count=4, unshared=0)
    objects.boxes[:, :, 0] = to_corners(ANCHORS[400])  # an overlap over the threshold
    objects.difficult[:, :, 0] = True
    criterion = DualCriterion(use_difficult=use_difficult)
    views = [Objects(*(field[:, i] for field in objects)) for i in range(2)]
    for i in range(2):
        labels = criterion.match(ANCHORS, views[i], period(camera)[:, i])
        matched = labels.objects[labels.labels > 0]
        assert (0 in matched) == use_difficult
        assert bool((labels.labels == NEUTRAL).any()) == (not use_difficult)
        # A padded slot, whatever is left in it, is neither an object nor ignored.
        views[i].present[:, 0] = False
        padded = criterion.match(ANCHORS, views[i], period(camera)[:, i])
        assert not (padded.labels == NEUTRAL).any()
        assert 0 not in padded.objects[padded.labels > 0]


def test_what_is_left_in_padded_slots_does_not_matter():
    camera = random_cameras(9, 2, dtype=torch.float64)
    objects, said = street(9, camera, count=5, unshared=0), random_output(9, camera)
    objects.present[0, 1, 2:] = False  # with the identities that view 1 has
    objects.present[1, 0, 4:] = False
    clean = Objects(
        *(field * objects.present.view(*objects.present.shape, *[1] * (field.dim() - 3)) for field in objects)
    )
    assert run(DualCriterion(), said, objects, camera) == run(DualCriterion(), said, clean, camera)


def test_offsets_of_a_view_go_around_the_seam_of_that_view():
    # One box over x = 150: the seam of view 1, and the middle of view 2, which shows half of the directions a pixel.
    camera = random_cameras(10, 1, dtype=torch.float64)
    camera = camera._replace(scale=camera.scale * torch.tensor([1.0, 0.5])[:, None])
    objects = street(10, camera, count=1, unshared=1)
    objects.boxes[:] = torch.tensor([142.5, 35.8, 157.5, 46.7])
    criterion = DualCriterion()
    said, matches = perfect_output(criterion, objects, camera)
    sides = [ANCHORS[match.labels[0] > 0][:, 0] < 75 for match in matches]
    assert bool(sides[0].any())
    assert not bool(sides[0].all())
    assert not bool(sides[1].any())
    # The offsets of every anchor lead to the box, or to the same box once around.
    decoded = to_centers(said.output.boxes[0, 0][matches[0].labels[0] > 0])[:, 0]
    torch.testing.assert_close(decoded, torch.where(sides[0], 0.0, 150.0).double(), rtol=0, atol=1e-4)
    found = run(criterion, said, objects, camera)
    assert [found[name] for name in TERMS[:2]] == [pytest.approx((0, 0), abs=1e-6)] * 2


@pytest.mark.parametrize(
    ("shared", "present", "slots"),
    [
        (False, True, 4),  # no object is in both views
        (True, False, 4),  # no object at all, padding only
        (True, False, 1),
        (True, False, 0),  # not even padding
    ],
)
def test_without_shared_objects_everything_is_finite_and_teaches(shared, present, slots):
    camera = random_cameras(7, 2)
    objects = street(7, camera, count=4, unshared=0 if shared else 4)
    if not present:
        objects = Objects(*(torch.zeros_like(field[:, :, :slots]) for field in objects))
    logits = torch.randn(2, 2, len(ANCHORS), 3, requires_grad=True)
    offsets = torch.zeros(2, 2, len(ANCHORS), 4, requires_grad=True)
    said = output_of(logits, offsets, camera, trained=True)
    criterion = DualCriterion()
    total, terms = criterion.total(criterion(*said, objects, camera, ANCHORS, VARIANCES, SIZE[1]))
    assert all(bool(value.isfinite()) and value.item() > 0 for value in terms.values())
    total.backward()
    assert logits.grad is not None
    assert offsets.grad is not None
    assert bool(logits.grad.isfinite().all())
    assert bool(offsets.grad.isfinite().all())
    assert bool(logits.grad.any())
    if not present:
        assert not offsets.grad.any()


def test_thresholds_reach_the_matching():
    camera = random_cameras(8, 1)
    objects = street(8, camera, count=4)
    view = Objects(*(field[:, 0] for field in objects))
    around = period(camera)[:, 0]
    strict = DualCriterion(positive_iou=0.6, negative_iou=0.6).match(ANCHORS, view, around).labels
    loose = DualCriterion(positive_iou=0.4, negative_iou=0.4).match(ANCHORS, view, around).labels
    band = DualCriterion(positive_iou=0.6, negative_iou=0.4).match(ANCHORS, view, around).labels
    assert int((strict > 0).sum()) < int((loose > 0).sum())
    assert torch.equal(band > 0, strict > 0)
    assert torch.equal(band == NEUTRAL, (loose > 0) & (strict == 0))
    assert int((band == NEUTRAL).sum()) > 0


# Settings


def test_total_weighs_terms_and_localisation():
    terms = {name: LossTerms(torch.tensor(float(i)), torch.tensor(10.0 * i)) for i, name in enumerate(TERMS, start=1)}
    weights = {"view_1": 1.0, "view_2": 2.0, "view_1_to_2": 0.5, "view_2_to_1": 0.0}
    total, named = DualCriterion(weights=weights, alpha=0.1).total(terms)
    assert {name: float(value) for name, value in named.items()} == {name: 2.0 * i for i, name in enumerate(TERMS, 1)}
    assert float(total) == pytest.approx(2 + 2 * 4 + 0.5 * 6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": {"view_1": 1.0}}, r"loss.weights: found \['view_1'\], expected"),
        ({"weights": {**dict.fromkeys(TERMS, 1.0), "view_3": 1.0}}, "view_3"),
        ({"positive_iou": 0.4}, "found 0.5 and 0.4"),
        ({"negative_iou": 0.0}, "found 0.0 and 0.5"),
        ({"positive_iou": 1.5}, "found 0.5 and 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DualCriterion(**settings)


def test_background_outside_the_band_teaches_nothing():
    camera = random_cameras(2, pairs=2, dtype=torch.float64)
    objects = street(2, camera)
    views = [Objects(*(field[:, number] for field in objects)) for number in range(2)]
    torch.manual_seed(0)
    logits = torch.randn(2, 2, len(ANCHORS), 3, dtype=torch.float64)
    offsets = 0.1 * torch.randn(2, 2, len(ANCHORS), 4, dtype=torch.float64)
    band = Band(16, 48)
    outside = ~band.holds(ANCHORS)
    criterion = DualCriterion(**EVERYTHING)

    def terms(logits, band):
        said = output_of(logits, offsets, camera)
        return criterion(*said, objects, camera, ANCHORS.double(), VARIANCES, SIZE[1], band=band)

    matched = criterion.match(ANCHORS.double(), views[0], period(camera)[:, 0]).labels > 0
    changed = logits.clone()
    changed[:, 0] += torch.where((outside & ~matched.any(0))[:, None], logits.new_tensor([3.0, 0.0, 0.0]), 0.0)
    assert not torch.equal(changed, logits)
    assert terms(changed, None)["view_1"].classification != terms(logits, None)["view_1"].classification
    for name in ("view_1", "view_2"):
        assert terms(changed, band)[name].classification == terms(logits, band)[name].classification
    labels = criterion.match(ANCHORS.double(), views[0], period(camera)[:, 0], band).labels
    whole = criterion.match(ANCHORS.double(), views[0], period(camera)[:, 0]).labels
    assert torch.equal(labels == NEUTRAL, (whole == NEUTRAL) | ((whole == 0) & outside))
    assert torch.equal(labels > 0, whole > 0)
