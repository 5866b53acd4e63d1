"""The data set of single views, its batches and its data module: photos end at their edges, panoramas do not."""

import logging
import math
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image
from torch.utils.data import DistributedSampler

import crossview
from crossview.data import datamodule as module
from crossview.data.annotation import ImageAnnotation, ViewAnnotation
from crossview.data.augment import Augmentation, Crop, Expand, Interpolation, Mirror, Photometric, Roll
from crossview.data.batch import ViewBatch, collate_views
from crossview.data.datamodule import PairDataModule, ViewDataModule
from crossview.data.errors import DataError
from crossview.data.images import load_image
from crossview.data.views import ViewDataset
from crossview.data.voc_photos import VocPhotoReader
from tests.data.make_photos import PHOTO_CONFIGS, write_every_layout, write_folder, write_photo
from tests.data.make_voc import Item

CONF = Path(crossview.__file__).parent.parent / "conf"
PHOTO = Augmentation(
    expand=Expand(max_ratio=4.0), crop=Crop(), mirror=Mirror(), photometric=Photometric(), interpolation=Interpolation()
)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A grey image of 80 x 60 pixels with a bright block at x 60..80, y 20..40."""
    path = tmp_path_factory.mktemp("images") / "a.png"
    write_photo(path, (80, 60))
    pixels = np.full((60, 80, 3), 50, np.uint8)
    pixels[20:40, 60:80] = 250
    assert cv2.imwrite(str(path), pixels)
    return path


def fields(picture, boxes) -> dict[str, Any]:
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    count = len(boxes)
    return {
        "view": "a",
        "image": picture,
        "source": picture,
        "width": 80,
        "height": 60,
        "boxes": boxes,
        "labels": np.arange(count) + 1,
        "ids": np.arange(count),
        "has_id": np.zeros(count, dtype=bool),
        "difficult": np.arange(count) == 1,
        "truncated": np.zeros(count, dtype=bool),
        "locations": np.full((count, 2), np.nan),
        "has_location": np.zeros(count, dtype=bool),
    }


def photo(picture, boxes=((60, 20, 80, 40),)):
    return ImageAnnotation(**fields(picture, boxes))


def panorama(picture, boxes=((60, 20, 80, 40),)):
    return ViewAnnotation(**fields(picture, boxes), position=(34.0, -118.0), yaw=0.5)


def test_a_photo_has_edges_and_a_panorama_a_seam(picture):
    samples = [ViewDataset([view], (30, 40))[0] for view in (photo(picture), panorama(picture))]
    assert [sample.period for sample in samples] == [math.inf, 40]
    for sample in samples:
        assert sample.image.shape == (3, 30, 40)
        assert sample.objects.boxes.tolist() == [[30, 10, 40, 20]]
        assert sample.image_size.tolist() == [80, 60]
        assert not sample.objects.has_location.any()
        assert torch.isfinite(sample.objects.location).all()
    assert torch.equal(samples[0].image, samples[1].image)


def test_the_seam_of_a_rolled_panorama_is_respected(picture):
    dataset = ViewDataset([panorama(picture, [(60, 20, 80, 40)])], (60, 80), Augmentation(roll=Roll()))
    over_the_seam = 0
    for epoch in range(30):
        sample = dataset[epoch, 0]
        assert sample.period == 80
        x1, y1, x2, y2 = (int(value) for value in sample.objects.boxes[0])
        over_the_seam += x2 > 80
        assert (x2 - x1, y1, y2) == (20, 20, 40)
        columns = torch.arange(x1, x2) % 80
        assert (sample.image[:, y1:y2][..., columns] > 200).all()
    assert over_the_seam > 3


def test_a_cropped_panorama_keeps_its_pixels_a_turn(picture):
    dataset = ViewDataset([panorama(picture)], (30, 40), Augmentation(crop=Crop(1.0, (0.0,))))
    periods = {round(dataset[epoch, 0].period) for epoch in range(10)}
    assert all(period >= 40 for period in periods)
    assert len(periods) > 3


def test_boxes_of_an_augmented_photo_stay_on_their_object_and_within_the_image(picture):
    geometry = Augmentation(expand=Expand(1.0, 4.0), crop=Crop(1.0, (0.1,)), mirror=Mirror())
    dataset, checked = ViewDataset([photo(picture)], (60, 80), geometry), 0
    for epoch in range(60):
        sample = dataset[epoch, 0]
        for box in sample.objects.boxes:
            assert (box >= 0).all()
            assert (box <= torch.tensor([80, 60, 80, 60])).all()
            x1, y1, x2, y2 = box.round().int().tolist()
            if x2 - x1 > 5 and y2 - y1 > 5:
                assert sample.image[:, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].float().mean() > 200
                checked += 1
    assert checked > 20


def test_a_box_at_the_edge_of_a_photo_never_comes_back_on_the_other_side(picture):
    dataset = ViewDataset([photo(picture)], (60, 80), Augmentation(mirror=Mirror(1.0)))
    assert dataset[0].objects.boxes.tolist() == [[0, 20, 20, 40]]


@pytest.mark.parametrize("boxes", [[], [(0, 0, 80, 60)], [(60, 20, 80, 40), (1, 1, 9, 9)]])
def test_photos_with_any_number_of_objects_are_augmented(picture, boxes):
    dataset = ViewDataset([photo(picture, boxes)], (30, 30), PHOTO)
    for epoch in range(10):
        sample = dataset[epoch, 0]
        rows = sample.objects.labels - 1
        assert sample.objects.difficult.tolist() == (rows == 1).tolist()
        assert torch.isfinite(sample.objects.boxes).all()


def test_draws_depend_on_seed_epoch_and_index(picture):
    def drawn(seed, key):
        return ViewDataset([photo(picture)] * 2, (30, 30), PHOTO, seed)[key]

    def bits(sample):
        return pickle.dumps((sample.image.tolist(), sample.objects.boxes.tolist()))

    assert bits(drawn(1, (2, 0))) == bits(drawn(1, (2, 0)))
    assert bits(drawn(1, 0)) == bits(drawn(1, (0, 0)))
    assert len({bits(drawn(*which)) for which in [(1, (2, 0)), (2, (2, 0)), (1, (3, 0)), (1, (2, 1))]}) == 4


def test_a_photo_is_never_rolled(picture):
    with pytest.raises(DataError, match=r"a\.png is a photo: use data/augment=photo, or set data.augment.roll=null"):
        ViewDataset([panorama(picture), photo(picture)], (30, 30), Augmentation(roll=Roll()))


# setting, message
@pytest.mark.parametrize(
    ("values", "message"), [({"seed": -1}, "seed is -1"), ({"image_size": (0, 30)}, "image_size is")]
)
def test_a_setting_that_means_nothing_is_refused(picture, values, message):
    with pytest.raises(ValueError, match=message):
        ViewDataset([photo(picture)], **values)


def test_a_batch_is_padded_and_lies_pixel_by_pixel(picture):
    views = [photo(picture, []), panorama(picture), photo(picture, [(0, 0, 9, 9), (1, 1, 9, 9)])]
    dataset = ViewDataset(views, (30, 40))
    batch = collate_views([dataset[index] for index in range(3)])
    assert batch.images.shape == (3, 3, 30, 40)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.objects.boxes.shape == (3, 2, 4)
    assert batch.objects.present.tolist() == [[False, False], [True, False], [True, True]]
    assert batch.objects.labels.tolist() == [[0, 0], [1, 0], [1, 2]]
    assert batch.period.tolist() == [math.inf, 40, math.inf]
    assert batch.period.dtype == torch.float32
    assert batch.view_index.tolist() == [0, 1, 2]
    assert batch.image_size.tolist() == [[80, 60]] * 3


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("photos"), 24, [Item(), Item((1, 1, 9, 9))])


def make(root, kind: Any = ViewDataModule, **settings: Any):
    values: dict[str, Any] = {
        "reader": partial(VocPhotoReader),
        "image_size": (30, 30),
        "augment": PHOTO,
        "batch_size": 4,
        "num_workers": 0,
        "use_cache": False,
        "progress": False,
    }
    return kind(["tree"], root, **{**values, **settings})


def test_parts_become_batches(root):
    data = make(root, num_workers=1)
    data.setup()
    sizes = {split: len(data.dataset(split)) for split in ("train", "val", "test")}
    assert sum(sizes.values()) == 24
    loaders = {"train": data.train_dataloader(), "val": data.val_dataloader(), "test": data.test_dataloader()}
    for split, loader in loaders.items():
        batches = list(loader)
        assert all(isinstance(batch, ViewBatch) for batch in batches)
        assert sorted(index for batch in batches for index in batch.view_index.tolist()) == list(range(sizes[split]))
        assert isinstance(loader.sampler, DistributedSampler)


def test_only_training_images_are_augmented(root):
    data = make(root)
    batch = next(iter(data.val_dataloader()))
    assert batch.objects.boxes[0].tolist() == [[7.5, 5, 22.5, 25], [0, 0, 6.75, 9]]
    moved = next(iter(data.train_dataloader())).objects.boxes
    assert not torch.equal(moved[:, :2], batch.objects.boxes[:1].expand(len(moved), 2, 4)[:, : moved.shape[1]])


def test_panoramas_of_pairs_are_views_too(pair_root):
    data = ViewDataModule(["tree"], pair_root, image_size=(32, 64), num_workers=0, batch_size=3, camera_height_m=2.0)
    views = data.dataset("val").views
    assert len(views) == len({view.view for view in views}) == 4
    batch = next(iter(data.val_dataloader()))
    assert batch.period.tolist() == [64] * 3
    assert batch.objects.has_id.any()


def test_pairs_cannot_be_made_of_photos(root):
    with pytest.raises(DataError, match="data=voc has single images without poses; use task=single"):
        make(root, PairDataModule)


def test_without_a_root_photos_are_asked_for_and_panoramas_are_the_sample(monkeypatch, pair_root, caplog):
    with pytest.raises(DataError, match=r"data.root is not set; data=voc needs a folder of images: data.root=DIR"):
        make(None).setup()
    monkeypatch.setattr(module, "_sample_root", lambda: pair_root)
    data = ViewDataModule(["tree"], image_size=(32, 64), num_workers=0)
    with caplog.at_level(logging.INFO):
        data.prepare_data()
        assert len(data.dataset("test")) == 4
    assert any("rendered sample" in record.getMessage() for record in caplog.records)


def test_fewer_images_than_processes_are_an_error(root, monkeypatch):
    data = make(root)
    monkeypatch.setattr(data, "_rank_and_world_size", lambda: (0, 99))
    with pytest.raises(DataError, match=r"val_set 'val' has \d+ images for 99 devices"):
        data.val_dataloader()


@pytest.mark.parametrize("choice", PHOTO_CONFIGS)
def test_the_shipped_config_builds_it(choice, tmp_path):
    write_every_layout(tmp_path)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        common = ["task=single", f"data={choice}", f"data.root={tmp_path / choice}", "data.num_workers=0", "seed=3"]
        config = compose("train", [*common, *PHOTO_CONFIGS[choice]])
    data = instantiate(config.data)
    assert isinstance(data, ViewDataModule)
    batch = next(iter(data.train_dataloader()))
    assert batch.images.shape[1:] == (3, 300, 300)
    assert torch.isinf(batch.period).all()
    augment = data.dataset("train").augment
    assert augment.roll is None
    assert augment.expand is not None
    assert augment.expand.max_ratio == 4.0
    assert None not in (augment.crop, augment.mirror, augment.photometric)
    assert data.dataset("train").seed == 3


# Modes of images, and the kind of file that has them.
@pytest.mark.parametrize(("mode", "kind"), [("L", "png"), ("RGBA", "png"), ("P", "png"), ("1", "png"), ("CMYK", "jpg")])
def test_images_of_any_mode_become_rgb(tmp_path, mode, kind):
    grey = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (30, 1))
    path = tmp_path / f"a.{kind}"
    Image.fromarray(grey).convert("RGB").convert(mode).save(path)
    loaded = load_image(path)
    assert loaded.dtype == np.uint8
    expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
    np.testing.assert_allclose(loaded.astype(int), expected, atol=0 if kind == "png" else 6)


def test_sixteen_bits_become_eight(tmp_path):
    grey = np.tile(np.linspace(0, 65535, 40).astype(np.uint16), (30, 1))
    assert cv2.imwrite(str(tmp_path / "a.png"), grey)
    expected = np.repeat(grey[..., None] / 257, 3, axis=2)
    np.testing.assert_allclose(load_image(tmp_path / "a.png").astype(float), expected, atol=1)
