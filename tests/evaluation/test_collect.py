import numpy as np
import pytest
import torch

from crossview.evaluation.collect import pair_scenes
from crossview.geometry.frames import to_local
from tests.evaluation.scenes import cached, collected, same
from tests.tiny import data_module, first_batch, tiny_module


def test_scenes_hold_what_the_data_set_says(pair_root):
    scenes, _ = cached(pair_root)
    dataset = data_module(pair_root).dataset("test")
    assert [scene.number for scene in scenes] == list(range(len(dataset)))
    for scene in scenes:
        numbers = dataset.pairs[scene.number]
        origin = dataset.views[numbers[0]].position
        assert scene.origin == origin
        for view, number in zip(scene.views, numbers, strict=True):
            annotation = dataset.views[number]
            assert (view.name, view.image, view.number) == (annotation.view, str(annotation.image), number)
            np.testing.assert_array_equal(view.truth.ids, annotation.ids)
            pixels = view.objects.boxes * np.tile(view.pixel_scale, 2)
            np.testing.assert_allclose(pixels, annotation.boxes, atol=1e-3)
            np.testing.assert_allclose(view.truth.location, to_local(annotation.locations, origin), atol=1e-4)
            np.testing.assert_allclose(view.camera.position, to_local(annotation.position, origin), atol=1e-4)


def test_batches_do_not_matter(pair_root):
    module = tiny_module()
    one, _ = collected(pair_root, "data.batch_size=1", module=module)
    two, _ = collected(pair_root, "data.batch_size=2", module=module)
    assert len(one) == len(two) == 2
    for first, second in zip(one, two, strict=True):
        assert same(first.views[0].truth, second.views[0].truth)
        np.testing.assert_allclose(first.views[1].objects.placed, second.views[1].objects.placed, rtol=1e-5)


def test_annotated_boxes_are_placed_and_embedded_like_detections(pair_root):
    module = tiny_module().eval()
    batch = first_batch(pair_root)
    with torch.no_grad():
        output = module(batch)
        # What the network says of an anchor's box it says of the same box when it is annotated.
        boxes = output.boxes[:, :, :3]
        objects = batch.objects._replace(
            boxes=boxes, present=torch.ones(2, 2, 3, dtype=torch.bool), labels=torch.ones(2, 2, 3, dtype=torch.int64)
        )
        fields = ("ids", "has_id", "difficult", "location", "has_location")
        objects = objects._replace(**{name: getattr(objects, name)[:, :, :3] for name in fields})
        detections, placed = module.detect(batch, output)
        placements = module.net.place(output.boxes, output.objectness, batch.cameras)
        of_objects, of_detections = (
            module.net.embed(output, each, batch.cameras) for each in (boxes, detections.boxes)
        )
        scenes = pair_scenes(module, batch._replace(objects=objects), (output, detections, placed), ())
    for row, scene in enumerate(scenes):
        for view in range(2):
            found, geometry = scene.views[view].objects, placements[view]
            np.testing.assert_allclose(found.geometry, geometry.geometry_boxes[row, :3], rtol=1e-4)
            assert found.geometry_valid.tolist() == geometry.valid[row, :3].tolist()
            assert (found.scores == 1).all()
            detected = scene.views[view].detections
            assert found.embeddings is not None
            assert detected.embeddings is not None
            np.testing.assert_allclose(np.linalg.norm(found.embeddings.astype(float), axis=1), 1, atol=1e-2)
            np.testing.assert_allclose(found.embeddings, of_objects[row, view], atol=2e-3)  # half precision
            present = detections.present[row, view]
            wanted = of_detections[row, view][present]
            np.testing.assert_allclose(detected.embeddings, wanted, atol=2e-3)
        assert np.isnan(scene.origin).all()  # without a data set nobody knows where it is


@pytest.mark.parametrize("override", ["model.appearance=null"])
def test_a_network_without_appearance_has_no_embeddings(override, pair_root):
    scenes, _ = collected(pair_root, override, "model.loss.weights.reid=0")
    assert all(view.detections.embeddings is None for scene in scenes for view in scene.views)
