from functools import partial

import pytest
import torch
from torch import Tensor

from crossview.detector.decode import DetectionDecoder, decode_boxes
from crossview.dual.criterion import TERMS, DualCriterion
from crossview.dual.dual_ssd import DualOutput, DualSSD
from crossview.dual.head import GeometryHead, Placement, ResidualHead
from crossview.dual.learned import LearnedHead
from crossview.geometry.camera import Camera, period
from crossview.geometry.projection import project_boxes
from tests.dual.scenes import SIZE, VARIANCES, narrow_network, random_cameras, random_images, street, train_head


def forward(network: DualSSD, images: Tensor) -> DualOutput:
    output: DualOutput = network(images)
    return output


def placed(network: DualSSD, output: DualOutput, camera: Camera) -> tuple[Placement, Placement]:
    return network.place(output.boxes, output.objectness, camera)


def losses(network: DualSSD, output: DualOutput, objects, camera: Camera) -> dict[str, Tensor]:
    criterion, placements = DualCriterion(), placed(network, output, camera)
    return criterion.total(
        criterion(output, placements, objects, camera, network.anchors, VARIANCES, network.detector.image_size[1])
    )[1]


# Forward


@pytest.mark.parametrize("share_weights", [True, False])
def test_outputs_are_those_of_the_detector_on_each_view(share_weights):
    network = narrow_network(share_weights)
    if network.detector_2 is not None:
        for parameter in network.detector_2.parameters():
            parameter.data = parameter.data + 0.01
    images, camera = random_images(0, 2), random_cameras(0, 2)
    with torch.no_grad():
        output = forward(network, images)
        placements = placed(network, output, camera)
        towers = [network.detector, network.detector_2 or network.detector]
        for i, tower in enumerate(towers):
            alone = tower(images[:, i])
            torch.testing.assert_close(output.logits[:, i], alone.logits, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(output.offsets[:, i], alone.offsets, rtol=1e-4, atol=1e-4)
    count = len(network.anchors)
    assert output.logits.shape == (2, 2, count, 3)
    assert output.offsets.shape == output.boxes.shape == (2, 2, count, 4)
    assert torch.equal(output.boxes, decode_boxes(output.offsets, network.anchors, VARIANCES))
    for placement in placements:
        assert placement.boxes.shape == placement.geometry_boxes.shape == (2, count, 4)
        assert placement.valid.shape == placement.covisibility.shape == (2, count)
    assert all(bool(field.isfinite().all()) for field in (*output[:3], *placements[0], *placements[1]))


def test_an_untrained_network_places_every_box_by_pure_geometry():
    network, camera = narrow_network(), random_cameras(1, 3)
    with torch.no_grad():
        output = forward(network, random_images(1, 3))
        placements = placed(network, output, camera)
    cameras = [camera.view(i).per_object() for i in range(2)]
    for i, placement in enumerate(placements):
        geometry, valid = project_boxes(cameras[i], cameras[1 - i], output.boxes[:, i])
        assert torch.equal(placement.boxes, geometry)
        assert torch.equal(placement.geometry_boxes, geometry)
        assert torch.equal(placement.valid, valid)
        assert 0.2 < float(valid.float().mean()) < 0.9
        assert not placement.covisibility.any()


def test_a_second_tower_starts_as_a_copy_with_weights_of_its_own():
    one, two = narrow_network(share_weights=True), narrow_network(share_weights=False)
    images = random_images(2, 1)
    with torch.no_grad():
        logits = [forward(network, images).logits for network in (one, two)]
        torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-4)
    assert two.detector_2 is not None
    shared = sum(parameter.numel() for parameter in one.detector.parameters())
    assert sum(p.numel() for p in two.parameters()) == sum(p.numel() for p in one.parameters()) + shared
    assert {id(p) for p in two.detector.parameters()}.isdisjoint(id(p) for p in two.detector_2.parameters())
    assert torch.equal(two.detector.anchors, two.detector_2.anchors)


def test_the_score_that_the_head_sees_is_that_of_any_object():
    network, camera = narrow_network(), random_cameras(3, 1)
    seen: list[Tensor] = []
    network.projection.hidden.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        output = forward(network, random_images(3, 1))
        placements = placed(network, output, camera)
    for i, features in enumerate(seen):
        valid = placements[i].valid
        score = output.logits[:, i].softmax(dim=-1)[..., 1:].sum(dim=-1)
        torch.testing.assert_close(features[..., -2][valid], score[valid])


# Gradients


def test_each_loss_teaches_what_it_should():
    network, camera = narrow_network(share_weights=False), random_cameras(4, 2)
    train_head(network.projection, size=0.1)
    objects = street(4, camera)
    output = forward(network, random_images(4, 2))
    terms = losses(network, output, objects, camera)
    assert network.detector_2 is not None
    parts = {
        "class heads 1": list(network.detector.class_heads.parameters()),
        "box heads 1": list(network.detector.box_heads.parameters()),
        "class heads 2": list(network.detector_2.class_heads.parameters()),
        "box heads 2": list(network.detector_2.box_heads.parameters()),
        "head, hidden": list(network.projection.hidden.parameters()),
        "head, last": list(network.projection.output.parameters()),
    }
    head = {"head, hidden", "head, last"}
    expected = {
        "view_1": {"class heads 1", "box heads 1"},
        "view_2": {"class heads 2", "box heads 2"},
        # Boxes of the view that they come from; its scores are inputs of the head only.
        "view_1_to_2": {"box heads 1"} | head,
        "view_2_to_1": {"box heads 2"} | head,
    }
    for name in TERMS:
        taught = set()
        for part, parameters in parts.items():
            slopes = torch.autograd.grad(terms[name], parameters, retain_graph=True, allow_unused=True)
            assert all(slope is None or bool(slope.isfinite().all()) for slope in slopes)
            if any(slope is not None and bool(slope.any()) for slope in slopes):
                taught.add(part)
        assert taught == expected[name]


def test_shared_weights_learn_from_all_losses():
    network, camera = narrow_network(), random_cameras(4, 2)
    output = forward(network, random_images(4, 2))
    terms = losses(network, output, street(4, camera), camera)
    first = network.detector.backbone.get_submodule("conv1_1").get_parameter("weight")
    for name in TERMS:
        (slope,) = torch.autograd.grad(terms[name], first, retain_graph=True)
        assert bool(slope.isfinite().all())
        assert bool(slope.any())


def test_the_projection_loss_reaches_the_offsets_of_the_shared_anchors_only():
    network, camera = narrow_network(), random_cameras(5, 1)
    objects = street(5, camera, count=4, unshared=1)
    output = forward(network, random_images(5, 1))
    criterion, placements = DualCriterion(), placed(network, output, camera)
    terms = criterion(output, placements, objects, camera, network.anchors, VARIANCES, network.detector.image_size[1])
    (slope,) = torch.autograd.grad(terms["view_1_to_2"].localization, output.offsets)
    view = type(objects)(*(field[:, 0] for field in objects))
    matches = criterion.match(network.anchors, view, period(camera)[:, 0])
    shared = (matches.labels > 0) & (view.ids.gather(1, matches.objects) < 1000) & placements[0].valid
    assert int(shared.sum()) > 2
    assert torch.equal(slope[:, 0].any(dim=-1), shared)
    assert bool((slope[:, 0][shared] != 0).all())  # position and size alike
    assert not slope[:, 1].any()


@pytest.mark.parametrize("head", [ResidualHead, LearnedHead, GeometryHead])
def test_four_losses_fall_on_one_pair(head):
    # A head that still places wrongly would pull the boxes away.
    network, camera = narrow_network(head=partial(head, box_gradient=0.0)), random_cameras(6, 1)
    objects, images = street(6, camera, count=4), random_images(6, 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    history = []
    for _ in range(60):
        terms = losses(network, forward(network, images), objects, camera)
        history.append({name: value.item() for name, value in terms.items()})
        optimizer.zero_grad()
        sum(terms.values(), start=torch.zeros(())).backward()
        optimizer.step()
    for name in TERMS:
        start = history[0][name]
        end = sum(step[name] for step in history[-5:]) / 5
        assert end < 0.7 * start, f"{name}: {start} -> {end}"
    with torch.no_grad():
        placements = placed(network, forward(network, images), camera)
    for placement in placements:
        assert torch.equal(placement.boxes, placement.geometry_boxes) == (head is GeometryHead)
        assert bool(placement.covisibility.any())


# Detections


def test_detections_carry_the_placements_of_their_own_anchors():
    network, camera = narrow_network(), random_cameras(7, 2)
    train_head(network.projection, size=1.0)
    with torch.no_grad():
        output = forward(network, random_images(7, 2))
        # Sure about a few anchors, others in each view of each pair.
        logits = torch.zeros_like(output.logits)
        logits[..., 0] = 10
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randperm(len(network.anchors), generator=generator)[:48].view(2, 2, 12)
        for pair in range(2):
            for view in range(2):
                few = chosen[pair, view, : 12 - 3 * pair - view]
                logits[pair, view, few, 2] = 10 + 2 * torch.rand(len(few), generator=generator)
        output = output._replace(logits=logits)
        placements = placed(network, output, camera)
        detections, found = network.detections(output, camera, DetectionDecoder(0.3))
    count = int(detections.present.sum(dim=-1).max())
    assert detections.boxes.shape == found.boxes.shape == found.geometry_boxes.shape == (2, 2, count, 4)
    assert found.valid.shape == found.covisibility.shape == detections.scores.shape == (2, 2, count)
    assert len(detections.present.sum(dim=-1).unique()) > 1  # so that there is padding
    assert 0 < int((found.valid & detections.present).sum()) < int(detections.present.sum())
    for pair in range(2):
        for view in range(2):
            placement = placements[view]
            number = int(detections.present[pair, view].sum())
            assert number > 4
            for d in range(number):
                same = (output.boxes[pair, view] == detections.boxes[pair, view, d]).all(dim=-1).nonzero()
                anchor = int(same[0, 0])
                assert len(same) == 1
                assert anchor in chosen[pair, view]
                torch.testing.assert_close(found.boxes[pair, view, d], placement.boxes[pair, anchor])
                torch.testing.assert_close(found.geometry_boxes[pair, view, d], placement.geometry_boxes[pair, anchor])
                assert found.valid[pair, view, d] == placement.valid[pair, anchor]
                assert found.geometry_valid[pair, view, d] == placement.geometry_valid[pair, anchor]
                covisible = placement.covisibility[pair, anchor].sigmoid()
                assert float(found.covisibility[pair, view, d]) == pytest.approx(float(covisible), rel=1e-6)
            assert not found.valid[pair, view, number:].any()
            assert not found.geometry_valid[pair, view, number:].any()


def test_detections_go_around_the_seam_of_their_view():
    network, camera = narrow_network(), random_cameras(8, 2)
    with torch.no_grad():
        output = forward(network, random_images(8, 2))
    boxes, logits = output.boxes.clone(), torch.zeros_like(output.logits)
    logits[..., 0] = 10
    # The same object on both sides of the seam, in all views; those that are crops have no seam there.
    boxes[:, :, 0] = torch.tensor([140.0, 30.0, 160.0, 60.0])
    boxes[:, :, 1] = torch.tensor([-10.0, 30.0, 10.0, 60.0])
    logits[:, :, 0, 1], logits[:, :, 1, 1] = 14, 13
    cropped = camera._replace(scale=camera.scale * torch.tensor([1.0, 0.5])[:, None])
    detections, _ = network.detections(output._replace(boxes=boxes, logits=logits), cropped, DetectionDecoder(0.3))
    assert detections.present.sum(dim=-1).tolist() == [[1, 2], [1, 2]]


def test_no_detection_at_all():
    network, camera = narrow_network(), random_cameras(9, 2)
    with torch.no_grad():
        output = forward(network, random_images(9, 2))
    logits = torch.zeros_like(output.logits)
    logits[..., 0] = 20
    detections, found = network.detections(output._replace(logits=logits), camera, DetectionDecoder(0.3))
    assert detections.boxes.shape == found.boxes.shape == (2, 2, 0, 4)
    assert found.covisibility.shape == found.valid.shape == (2, 2, 0)


def test_boxes_and_geometry_stay_in_single_precision_under_autocast():
    network, camera = narrow_network(), random_cameras(10, 1)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        output = forward(network, random_images(10, 1))
        placements = placed(network, output, camera)
    floats = (
        *output[:3],
        *(
            field
            for placement in placements
            for field in (placement.boxes, placement.geometry_boxes, placement.covisibility)
        ),
    )
    assert {field.dtype for field in floats} == {torch.float32}
    assert torch.equal(output.boxes, decode_boxes(output.offsets, network.anchors, VARIANCES))
    assert torch.equal(placements[0].boxes, placements[0].geometry_boxes)


def test_anchors_are_those_of_the_detector():
    network = narrow_network()
    assert network.anchors is network.detector.anchors
    assert network.detector.image_size == SIZE
