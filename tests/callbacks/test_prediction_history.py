from typing import Any

import cv2
import numpy as np
import pytest
import torch

from crossview.callbacks.prediction_history import PredictionHistory, describe
from crossview.data.batch import Objects
from crossview.detector.detections import ViewDetections
from crossview.dual.placed import PlacedDetections
from tests.tiny import data_module, first_batch, quiet_trainer, tiny_module

PERIOD = 600.0
LEFT, RIGHT = [10.0, 100.0, 50.0, 180.0], [400.0, 100.0, 460.0, 180.0]
SEAM = [580.0, 100.0, 640.0, 180.0]


@pytest.fixture
def batch(pair_root):
    """One pair: view 1 has objects 7, 8 and one without identity, view 2 has 8; the last slots are padding."""
    pair = first_batch(pair_root, 1)
    boxes = torch.tensor([[[LEFT, SEAM, RIGHT, RIGHT], [LEFT, RIGHT, RIGHT, RIGHT]]])
    present = torch.tensor([[[True, True, True, False], [True, False, False, False]]])
    has_id = torch.tensor([[[True, True, False, True], [True, True, True, True]]])
    ids = torch.tensor([[[7, 8, 99, 99], [8, 99, 99, 99]]])
    nowhere, no = torch.zeros(1, 2, 4, 2), torch.zeros(1, 2, 4, dtype=torch.bool)
    objects = Objects(boxes, present.long(), ids, has_id, no, present, nowhere, no)
    return pair._replace(objects=objects)


def moved(box, right):
    return [box[0] + right, box[1], box[2] + right, box[3]]


def predict(*views):
    """What `detect` returns: for each view, detections (box, score, placed box, valid, covisibility)."""
    slots = max(len(view) for view in views) + 1  # the last is padding
    boxes, there = torch.zeros(1, 2, slots, 4), torch.zeros(1, 2, slots, 4)
    scores, covisibility, present, valid = torch.zeros(4, 1, 2, slots)
    for number, view in enumerate(views):
        for slot, (box, score, placed, is_valid, together) in enumerate(view):
            boxes[0, number, slot], there[0, number, slot] = torch.tensor(box), torch.tensor(placed)
            scores[0, number, slot], covisibility[0, number, slot] = score, together
            present[0, number, slot], valid[0, number, slot] = 1, is_valid
    detections = ViewDetections(boxes, scores, present.long(), present.bool())
    return detections, PlacedDetections(there, valid.bool(), there + 1, valid.bool(), covisibility)


def described(batch, monkeypatch, *views, most=40):
    module = tiny_module()
    monkeypatch.setattr(module, "detect", lambda *_: predict(*views))
    return describe(module, batch, 0.4, most)


def test_identities_are_those_of_the_objects_that_overlap_most(batch, monkeypatch):
    first = [
        (moved(LEFT, 5.0), 0.9, RIGHT, 1, 0.8),  # over object 7
        (moved(SEAM, -595.0), 0.8, RIGHT, 1, 0.7),  # over object 8, around the seam
        (RIGHT, 0.7, LEFT, 1, 0.6),  # over the object without identity; the padding at the same place does not count
        (moved(LEFT, 25.0), 0.6, LEFT, 1, 0.5),  # overlaps object 7 by less than half
    ]
    picture, other = described(batch, monkeypatch, first, [])
    assert picture.detections.has_id.tolist() == [True, True, False, False]
    assert picture.detections.ids[:2].tolist() == [7, 8]
    np.testing.assert_allclose(picture.detections.values, [0.9, 0.8, 0.7, 0.6])
    assert len(picture.placed.boxes) == 0
    # In the other view they are drawn where they are placed, with the identity they have here.
    np.testing.assert_allclose(other.placed.boxes, [RIGHT, RIGHT, LEFT, LEFT])
    assert other.placed.has_id.tolist() == [True, True, False, False]
    assert other.placed.ids[:2].tolist() == [7, 8]
    np.testing.assert_allclose(other.placed.values, [0.8, 0.7, 0.6, 0.5])
    assert len(other.detections.boxes) == 0


def test_weak_detections_and_impossible_places_are_left_out(batch, monkeypatch):
    second = [
        (LEFT, 0.5, RIGHT, 1, 0.01),  # unlikely to be in the other view, drawn all the same: the number says so
        (RIGHT, 0.5, RIGHT, 0, 0.9),  # has no place in the other view
        (RIGHT, 0.39, RIGHT, 1, 0.9),  # too weak
    ]
    first, picture = described(batch, monkeypatch, [], second)
    np.testing.assert_allclose(picture.detections.boxes, [LEFT, RIGHT])
    np.testing.assert_allclose(first.placed.boxes, [RIGHT])


def test_only_the_best_are_drawn(batch, monkeypatch):
    scores = [0.5, 0.9, 0.7, 0.8, 0.6]
    crowd = [(moved(LEFT, 30.0 * number), score, RIGHT, 1, score) for number, score in enumerate(scores)]
    picture, other = described(batch, monkeypatch, crowd, [], most=3)
    np.testing.assert_allclose(picture.detections.values, [0.9, 0.7, 0.8])
    np.testing.assert_allclose(other.placed.values, [0.9, 0.7, 0.8])


def test_what_is_annotated(batch, monkeypatch):
    first, second = described(batch, monkeypatch, [], [])
    np.testing.assert_allclose(first.ground_truth.boxes, [LEFT, SEAM, RIGHT])
    assert first.ground_truth.has_id.tolist() == [True, True, False]
    assert second.ground_truth.ids.tolist() == [8]
    assert (first.name, second.name) == batch.names[0]
    assert first.period == pytest.approx(PERIOD)
    np.testing.assert_array_equal(first.image, batch.images[0, 0].permute(1, 2, 0))


def test_the_network_is_left_as_it_is(batch):
    module = tiny_module().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    first, _ = describe(module, batch, 0.0, 40)
    assert len(first.detections.boxes) > 0  # an untrained network says something
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def files(folder):
    return sorted(path.name for path in folder.glob("*")) if folder.exists() else []


def test_the_same_pairs_are_drawn_after_every_validation(pair_root, tmp_path):
    history = PredictionHistory(str(tmp_path / "pictures"), pairs=2)
    trainer = quiet_trainer(max_epochs=2, max_steps=-1, callbacks=[history], num_sanity_val_steps=2)
    trainer.fit(tiny_module(), datamodule=data_module(pair_root, "data.batch_size=2", "data.val_set=[train,val]"))
    # 4 training pairs, 2 a step; 6 validation pairs, of which the first and the last; nothing for the sanity check
    expected = [f"step_{step:06d}_pair_{pair:04d}.jpg" for step in (2, 4) for pair in (0, 5)]
    assert files(tmp_path / "pictures") == expected
    for path in (tmp_path / "pictures").iterdir():
        picture = cv2.imread(str(path))
        assert picture is not None
        assert picture.shape[1] > 1000


@pytest.mark.parametrize("pairs", [1, 9])
def test_more_pairs_than_there_are(pairs, pair_root, tmp_path):
    history = PredictionHistory(str(tmp_path), pairs=pairs)
    trainer = quiet_trainer(callbacks=[history])
    trainer.validate(tiny_module(), datamodule=data_module(pair_root), verbose=False)
    assert len(files(tmp_path)) == min(pairs, 2)


def test_only_the_first_process_draws(pair_root, tmp_path, monkeypatch):
    history = PredictionHistory(str(tmp_path / "pictures"))
    trainer = quiet_trainer(callbacks=[history])
    monkeypatch.setattr(type(trainer), "is_global_zero", False)
    trainer.validate(tiny_module(), datamodule=data_module(pair_root), verbose=False)
    assert files(tmp_path / "pictures") == []


@pytest.mark.parametrize(("names", "expected"), [(["tree"], None), (["tree", "sign"], ["tree"])])
def test_single_views_name_their_classes_where_there_are_several(names, expected, pair_root, monkeypatch):
    overrides = ["task=single", f"data.class_names=[{','.join(names)}]"]
    module: Any = tiny_module(*overrides)
    dataset = data_module(pair_root, *overrides).dataset("val")
    views = dataset.collate([dataset[0]])
    box = torch.tensor([[[10.0, 100.0, 60.0, 200.0]]])
    found = ViewDetections(box, torch.tensor([[0.9]]), torch.tensor([[1]]), torch.tensor([[True]]))
    monkeypatch.setattr(module, "detect", lambda batch, output: found)
    (picture,) = describe(module, views, 0.4, 40)
    assert picture.placed is None
    assert picture.name == views.names[0]
    assert picture.detections.classes == expected
    assert len(picture.ground_truth.boxes) == int(views.objects.present.sum())
