"""The data set of pairs: frames, identities and pixels of what is on disk."""

import pickle
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from crossview.data.annotation import ViewAnnotation
from crossview.data.augment import Augmentation, Crop, Expand, Interpolation, Mirror, Photometric, Roll
from crossview.data.batch import PairSample
from crossview.data.errors import DataError
from crossview.data.images import load_image
from crossview.data.pairs import PairDataset
from crossview.data.voc import PairedVocReader
from crossview.geometry.camera import Camera, project_point
from tests.data.make_voc import IMAGES, write_pair_dataset

FULL = Augmentation(
    roll=Roll(), expand=Expand(), crop=Crop(), mirror=Mirror(), photometric=Photometric(), interpolation=Interpolation()
)
ORIGIN = (34.156992, -118.165118)
HERE = {"view": "a", "position": ORIGIN}
# 0.0001 degrees of latitude are 11.119 m, of longitude at this latitude 9.202 m.
EAST = {"view": "b", "position": (ORIGIN[0], ORIGIN[1] + 0.0001)}


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """An image file of 256 x 128 pixels: smooth, with a red top half and a blue right half."""
    y, x = np.mgrid[0:128, 0:256]
    pixels = np.stack((np.where(y < 64, 200, 40), np.full_like(x, 90), np.where(x >= 128, 220, 30)), axis=2)
    path = tmp_path_factory.mktemp("images") / "a.jpg"
    assert cv2.imwrite(str(path), pixels[..., ::-1].astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 98])
    return path


def annotation(picture, objects=3, **changes: Any):
    number = np.arange(objects)
    left = 20.0 + 60 * number
    values: dict[str, Any] = {
        "view": "a",
        "image": picture,
        "source": picture,
        "width": 256,
        "height": 128,
        "boxes": np.stack((left, 0 * left + 40, left + 30, 0 * left + 90), axis=1),
        "labels": number + 1,
        "ids": number + 2**60,
        "has_id": number != 1,
        "difficult": number == 2,
        "truncated": number == 0,
        "locations": np.stack((ORIGIN[0] + 1e-4 * number, np.full(objects, ORIGIN[1])), axis=1),
        "has_location": number != 0,
        "position": ORIGIN,
        "yaw": 0.5,
    }
    return ViewAnnotation(**{**values, **changes})


def pair(picture, first=HERE, second=EAST, **settings: Any):
    views = [annotation(picture, **first), annotation(picture, **second)]
    return PairDataset(views, [(0, 1)], image_size=(64, 128), **settings)[0]


def equal(one: PairSample, other: PairSample) -> bool:
    """Whether two samples are the same to the last bit."""
    return pickle.dumps(flat(one)) == pickle.dumps(flat(other))


def flat(sample):
    tensors = [sample.images, *sample.objects[0], *sample.objects[1], *sample.cameras, sample.view_index]
    return [tensor.tolist() for tensor in tensors], sample.pair_index, sample.names


def test_the_frame_is_metres_east_and_north_of_view_1(picture):
    sample = pair(picture, camera_height_m=2.5)
    assert sample.cameras.position[0].tolist() == [0, 0]
    assert sample.cameras.position[1].tolist() == pytest.approx([9.202, 0], abs=2e-3)
    assert sample.cameras.height.tolist() == [2.5, 2.5]
    assert sample.cameras.yaw.tolist() == [0.5, 0.5]
    assert sample.cameras.scale.tolist() == [[1 / 128, 1 / 64]] * 2
    for objects in sample.objects:  # both views in the same frame; the first object has no location
        assert objects.location.numpy() == pytest.approx(np.array([[0, 0], [0, 11.119], [0, 22.239]]), abs=2e-3)
        assert objects.has_location.tolist() == [False, True, True]
    assert all(field.dtype == torch.float32 for field in sample.cameras)


def test_a_location_that_is_not_there_does_not_matter_even_if_it_is_no_number(picture):
    locations = np.full((3, 2), np.nan)
    sample = pair(picture, {**HERE, "locations": locations, "has_location": np.zeros(3, dtype=bool)})
    assert torch.isfinite(sample.objects[0].location).all()
    assert torch.isfinite(sample.cameras.position).all()


def test_pixels_and_boxes_come_at_the_network_size(picture):
    sample = pair(picture)
    assert sample.images.shape == (2, 3, 64, 128)
    assert sample.images.dtype == torch.uint8
    image = sample.images[0].numpy().astype(int)
    np.testing.assert_allclose(image[:, 10, 10], (200, 90, 30), atol=8)  # red, green, blue at the top left
    np.testing.assert_allclose(image[:, 50, 100], (40, 90, 220), atol=8)  # ... and at the bottom right
    assert sample.objects[0].boxes.tolist() == [[10, 20, 25, 45], [40, 20, 55, 45], [70, 20, 85, 45]]
    assert sample.panorama_size.tolist() == [[256, 128]] * 2
    assert (sample.view_index.tolist(), sample.pair_index, sample.names) == ([0, 1], 0, ("a", "b"))


def test_objects_keep_what_belongs_to_them_when_others_are_cropped_away(picture):
    dataset = PairDataset(
        [annotation(picture, 3, **HERE), annotation(picture, 2, **EAST)], [(0, 1), (1, 0)], (64, 128), augment=FULL
    )
    seen = set()
    for epoch in range(15):
        for index, numbers in enumerate(dataset.pairs):
            sample = dataset[epoch, index]
            for objects, number in zip(sample.objects, numbers, strict=True):
                view, rows = dataset.views[number], (objects.labels - 1).numpy()
                seen.add((len(view.labels), len(rows)))
                assert objects.ids.tolist() == view.ids[rows].tolist()
                assert objects.has_id.tolist() == view.has_id[rows].tolist()
                assert objects.difficult.tolist() == view.difficult[rows].tolist()
                assert objects.has_location.tolist() == view.has_location[rows].tolist()
                assert objects.present.all()
    assert {(3, 3), (3, 1)} <= seen, "the test saw complete and cropped views"


# objects of both views
@pytest.mark.parametrize("counts", [(0, 0), (0, 2), (2, 0)])
def test_views_without_objects_are_augmented_like_others(picture, counts):
    views = [annotation(picture, count, **where) for count, where in zip(counts, (HERE, EAST), strict=True)]
    dataset = PairDataset(views, [(0, 1)], (64, 128), augment=FULL)
    for epoch in range(10):
        sample = dataset[epoch, 0]
        assert sample.objects[0].boxes.shape[1:] == (4,)
        assert len(sample.objects[0].labels) <= counts[0]
        assert all(torch.isfinite(field).all() for field in sample.cameras)


def test_an_epoch_and_an_index_decide_the_draws_with_the_seed(picture):
    views = [annotation(picture, **HERE), annotation(picture, **EAST)]

    def dataset(seed):
        return PairDataset(views, [(0, 1), (0, 1)], (64, 128), augment=FULL, seed=seed)

    assert equal(dataset(1)[3, 0], dataset(1)[3, 0])
    assert equal(dataset(1)[0, 0], dataset(1)[0]), "a plain index is epoch 0"
    first = dataset(1)[3, 0]
    for other in (dataset(1)[4, 0], dataset(2)[3, 0], dataset(1)[3, 1]):
        assert not torch.equal(first.images, other.images)


def test_a_data_set_can_be_sent_to_a_worker(picture):
    dataset = PairDataset([annotation(picture), annotation(picture)], [(0, 1)], (64, 128), augment=FULL)
    assert equal(pickle.loads(pickle.dumps(dataset))[5, 0], dataset[5, 0])


def test_augmented_files_still_show_the_objects_in_their_boxes(tmp_path):
    """Real files end to end: the coloured rectangles of the made data set fill their augmented boxes."""
    root = write_pair_dataset(tmp_path, pairs=3, size=(256, 128), objects=1)
    found = PairedVocReader(root, ["tree"], use_cache=False, progress=False).read("train")
    geometry = replace(FULL, photometric=None, interpolation=Interpolation(("area",)))
    dataset, checked = PairDataset(found.views, found.pairs, (128, 256), augment=geometry), 0
    for epoch in range(20):
        for index in range(3):
            sample = dataset[epoch, index]
            for image, objects, number in zip(sample.images, sample.objects, sample.view_index.tolist(), strict=True):
                for box in objects.boxes.numpy():
                    x1, y1, x2, y2 = np.round(box).astype(int)
                    if x2 > 256 or x2 - x1 < 7 or y2 - y1 < 7:
                        continue
                    inside = image[:, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].float().mean(dim=(1, 2))
                    whole = load_image(found.views[number].image)
                    left, top, right, bottom = found.views[number].boxes[0].astype(int)
                    colour = whole[top + 1 : bottom - 1, left + 1 : right - 1].mean(axis=(0, 1))
                    np.testing.assert_allclose(inside.numpy(), colour, atol=16)
                    checked += 1
    assert checked > 20


def test_locations_project_to_the_feet_of_their_augmented_boxes(tmp_path):
    root = write_pair_dataset(tmp_path, pairs=4, size=(512, 256), objects=5)
    found = PairedVocReader(root, ["tree"], use_cache=False, progress=False).read("train")
    uncut = replace(FULL, expand=None, crop=None)
    dataset, seen = PairDataset(found.views, found.pairs, (256, 512), augment=uncut), 0
    for epoch in range(6):
        for index in range(4):
            sample = dataset[epoch, index]
            for view, objects in enumerate(sample.objects):
                camera = Camera(*(field[view] for field in sample.cameras)).per_object()
                foot, valid = project_point(camera, objects.location)
                assert valid.all()
                across = foot[:, 0] - (objects.boxes[:, 0] + objects.boxes[:, 2]) / 2
                across -= torch.round(across / 512) * 512
                # The made boxes are rounded to whole pixels of 512.
                np.testing.assert_allclose(across, 0, atol=0.6)
                np.testing.assert_allclose(foot[:, 1], objects.boxes[:, 3], atol=0.6)
                seen += len(across)
    assert seen > 100


def test_an_image_that_changed_its_size_is_an_error_that_names_it(picture):
    with pytest.raises(DataError, match=r"a\.jpg: the image is 256x128 pixels, but was 128x64 when"):
        pair(picture, {**HERE, "width": 128, "height": 64})


def test_an_image_that_is_gone_is_an_error_that_names_it(picture, tmp_path):
    with pytest.raises(DataError, match=r"gone\.jpg"):
        pair(picture, {**HERE, "image": tmp_path / IMAGES / "gone.jpg"})


# setting, message
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pairs": [(0, 2)]}, "pairs name views 0 to 2; expected 0 to 1"),
        ({"pairs": [(-1, 0)]}, "pairs name views -1 to 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"image_size": (300,)}, "image_size is"),
        ({"image_size": (0, 600)}, "image_size is"),
        ({"camera_height_m": 0.0}, "camera_height_m is 0.0"),
        ({"camera_height_m": float("nan")}, "camera_height_m is nan"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(picture, values, message):
    settings: dict[str, Any] = {"pairs": [(0, 1)], **values}
    with pytest.raises(ValueError, match=message):
        PairDataset([annotation(picture), annotation(picture)], **settings)


def test_no_pairs_are_an_empty_data_set():
    assert len(PairDataset([], [])) == 0
