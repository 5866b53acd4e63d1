import math
from typing import Any

import pytest
import torch

from crossview.detector.detections import ViewDetections
from crossview.single_module import SingleViewModule
from tests.tiny import data_module, loader, quiet_trainer, tiny_module

SINGLE = "task=single"


def single(*overrides) -> Any:
    return tiny_module(SINGLE, *overrides)


@pytest.fixture(scope="module")
def views(pair_root):
    """The panoramas of the training pairs, each by itself."""
    dataset = data_module(pair_root, SINGLE).dataset("train")
    return dataset.collate([dataset[index] for index in range(len(dataset))])


def evaluated(module, *batches):
    return quiet_trainer().test(module, loader(*batches), verbose=False)[0]


def detect_annotations(batch, output):
    """Detects exactly what is annotated."""
    present = batch.objects.present
    return ViewDetections(batch.objects.boxes, present.float(), batch.objects.labels, present)


def test_every_panorama_of_the_pairs_comes_once(views):
    assert len(set(views.names)) == len(views.names) > 4
    assert views.period.tolist() == [views.images.shape[-1]] * len(views.names)


def test_what_is_logged(views):
    trainer = quiet_trainer()
    trainer.fit(single(), loader(views))
    assert set(trainer.callback_metrics) == {"train/lr", "train/loss/total", "train/loss/view"}
    found = evaluated(single(), views)
    assert set(found) == {
        f"test/{name}" for name in ("loss/total", "loss/view", "detection/ap50", "detection/voc07_ap")
    }
    assert found["test/loss/total"] == found["test/loss/view"] > 0


def test_perfect_detections_score_one(views, monkeypatch):
    module = single()
    monkeypatch.setattr(module, "detect", detect_annotations)
    assert evaluated(module, views)["test/detection/ap50"] == pytest.approx(1.0)


def test_the_loss_falls(views):
    module = single("optimizer.lr=3e-3", "scheduler=constant")
    before = evaluated(module, views)["test/loss/total"]
    quiet_trainer(max_steps=25, max_epochs=-1).fit(module, loader(views))
    assert evaluated(module, views)["test/loss/total"] < 0.8 * before


def test_the_losses_of_photos_do_not_go_around(views):
    width = views.images.shape[-1]
    turn = (width - 10 - views.objects.boxes[..., :1, 0]).unsqueeze(-1) * torch.tensor([1.0, 0.0, 1.0, 0.0])
    rolled = views._replace(objects=views.objects._replace(boxes=views.objects.boxes + turn))
    assert bool((rolled.objects.boxes[:, 0, 2] > width).any())  # so that the seam matters
    flat = rolled._replace(period=torch.full_like(views.period, math.inf))
    module = single().eval()
    with torch.no_grad():
        output = module(views)
        around, straight = (float(module.losses(batch, output)[0]) for batch in (rolled, flat))
    assert math.isfinite(around)
    assert math.isfinite(straight)
    assert around != straight


def test_a_panorama_on_a_larger_canvas_does_not_go_around_there(views):
    half = views._replace(
        period=views.period / 2,
        objects=views.objects._replace(boxes=views.objects.boxes * torch.tensor([0.5, 1.0, 0.5, 1.0])),
    )
    flat = half._replace(period=torch.full_like(views.period, math.inf))
    module = single().eval()
    with torch.no_grad():
        output = module(views)
        assert float(module.losses(half, output)[0]) == float(module.losses(flat, output)[0])


def test_images_without_objects_teach_too(views):
    empty = views._replace(objects=type(views.objects)(*(torch.zeros_like(field) for field in views.objects)))
    module = single()
    total, _ = module.losses(empty, module(empty))
    total.backward()
    assert 0 < float(total.detach()) < math.inf
    heads = [head.weight.grad for head in module.net.detector.class_heads]
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in heads)
    assert any(bool(gradient.any()) for gradient in heads if gradient is not None)


def test_hyper_parameters_are_plain(views):
    module = single()
    assert isinstance(module, SingleViewModule)
    assert type(module.hparams["backbone"]) is dict
    assert "projection" not in module.hparams
