"""The cache of smaller images: the same geometry, nearly the same pixels, and no stale image ever."""

import multiprocessing
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from crossview.data import image_cache
from crossview.data.annotation import ImageAnnotation, ViewAnnotation
from crossview.data.augment import Augmentation, Crop, Expand, Interpolation, Mirror, Photometric, Roll
from crossview.data.datamodule import PairDataModule
from crossview.data.errors import DataError
from crossview.data.image_cache import ImageCache, factor_of
from crossview.data.image_files import ImageFiles
from crossview.data.views import ViewDataset
from tests.data.make_voc import write_pair_dataset

GEOMETRY = Augmentation(
    roll=Roll(), expand=Expand(), crop=Crop(), mirror=Mirror(), interpolation=Interpolation(("area",))
)
FULL = replace(GEOMETRY, photometric=Photometric())
ENCODINGS = ["jpeg", "arrays"]
OLD_NS = 1_600_000_000_000_000_000


def write_picture(path: Path, size=(256, 128), phase=0.0, age=OLD_NS) -> Path:
    """A smooth picture, as photos mostly are, with an old time."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]] / 20
    waves = (100 + 80 * np.sin(x + phase), 120 + 70 * np.cos(y), 128 + 50 * np.sin(x + y))
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.stack(waves, axis=2).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 95])
    os.utime(path, ns=(age, age))
    return path


def annotation(path: Path, size=(256, 128), kind: Any = ViewAnnotation, **changes: Any):
    values: dict[str, Any] = {
        "view": path.stem,
        "image": path,
        "source": path,
        "width": size[0],
        "height": size[1],
        "boxes": np.array([[20.0, 30, 90, 70], [200, 50, 270, 100]])[: 2 if kind is ViewAnnotation else 1],
        "labels": np.array([1, 2]),
        "ids": np.array([1, 2]),
        "has_id": np.array([True, True]),
        "difficult": np.array([False, True]),
        "truncated": np.array([False, False]),
        "locations": np.zeros((2, 2)),
        "has_location": np.array([False, False]),
    }
    if kind is ImageAnnotation:
        values = {name: value[:1] if isinstance(value, np.ndarray) else value for name, value in values.items()}
    else:
        values |= {"position": (0.0, 0.0), "yaw": 0.0}
    return kind(**{**values, **changes})


@pytest.fixture
def views(tmp_path):
    return [annotation(write_picture(tmp_path / "data" / f"{name}.jpg", phase=n)) for n, name in enumerate("abc")]


@pytest.fixture
def settings(tmp_path):
    return {"folder": tmp_path / "cache", "min_size": (60, 120), "progress": False}


@pytest.fixture
def encoded(monkeypatch):
    """The names of the images that were made, in order."""
    names: list[str] = []
    encode = ImageCache._encode

    def spy(self, view):
        names.append(view.view)
        return encode(self, view)

    monkeypatch.setattr(ImageCache, "_encode", spy)
    return names


def images(views, settings, encoding="jpeg", told=None, **changes: Any):
    tell = (lambda message: None) if told is None else told.append
    return ImageCache(encoding, **{**settings, **changes}).images(views, "train", tell)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_boxes_are_the_same_and_pixels_nearly(views, settings, encoding):
    plain = ViewDataset(views, (60, 120), GEOMETRY)
    cached = ViewDataset(views, (60, 120), GEOMETRY, images=images(views, settings, encoding))
    whole = 0
    for epoch in range(15):
        for index in range(3):
            one, two = plain[epoch, index], cached[epoch, index]
            assert torch.equal(one.objects.boxes, two.objects.boxes)
            assert one.period == two.period
            assert (one.image.float() - two.image.float()).abs().mean() < 2
            whole += torch.equal(one.image, two.image)
    assert whole < 45, "the cache was really used"


def test_pairs_keep_their_cameras(tmp_path, settings):
    root = write_pair_dataset(tmp_path / "pairs", pairs=2, size=(256, 128))
    common: dict[str, Any] = {"augment": FULL, "image_size": (60, 120), "num_workers": 0, "use_cache": False}
    plain = PairDataModule(["tree"], root, **common).dataset("train")
    cache = ImageCache("arrays", **settings)
    cached = PairDataModule(["tree"], root, image_cache=cache, **common).dataset("train")
    for epoch in range(5):
        one, two = plain[epoch, 0], cached[epoch, 0]
        assert all(torch.equal(*both) for both in zip(one.cameras, two.cameras, strict=True))
        assert all(torch.equal(*both) for both in zip(one.objects[1], two.objects[1], strict=True))
        assert (one.images.float() - two.images.float()).abs().mean() < 12  # noise, the worst there is


# width, height, least size (height, width), factor
@pytest.mark.parametrize(
    ("size", "min_size", "factor"),
    [
        ((2048, 1024), (300, 600), 2),
        ((2048, 1024), (256, 512), 4),
        ((4096, 2048), (100, 100), 4),  # no further than the grid of the geometry
        ((2048, 1024), (600, 600), 1),
        ((2046, 1022), (200, 200), 2),
        ((501, 375), (100, 100), 1),  # odd
        ((64, 32), (300, 600), 1),
    ],
)
def test_the_factor_leaves_the_least_size_and_whole_pixels(size, min_size, factor):
    assert factor_of(annotation(Path("a.jpg"), size), min_size) == factor


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_coarser_image_comes_from_the_cached_one(views, settings, encoding):
    cached = images(views, settings, encoding)
    assert cached.least_reduction(views[0]) == 2
    for reduction in (2, 4):
        loaded = cached.load(views[0], reduction)
        assert loaded.shape == (128 // reduction, 256 // reduction, 3)
        expected = ImageFiles().load(views[0], reduction)
        assert np.abs(loaded.astype(int) - expected).mean() < 2


def test_an_image_that_is_not_reduced_is_kept_as_it_is(views, settings):
    cached = images(views, settings, min_size=(128, 256))
    assert cached.least_reduction(views[0]) == 1
    assert cached.content(str(views[0].image))[1].tobytes() == views[0].image.read_bytes()


def test_photos_of_any_size(tmp_path, settings):
    path = write_picture(tmp_path / "odd.jpg", (131, 97))
    view = annotation(path, (131, 97), ImageAnnotation)
    cached = images([view], settings, min_size=(20, 20))
    np.testing.assert_array_equal(cached.load(view, 1), ImageFiles().load(view, 1))


def test_a_second_start_makes_nothing(views, settings, encoded):
    told: list[str] = []
    images(views, settings, told=told)
    assert encoded == ["a", "b", "c"]
    assert len(told) == 1
    assert "3 of 3 images" in told[0]
    images(views, settings, told=told)
    assert len(encoded) == 3
    assert len(told) == 1
    assert not list(settings["folder"].glob("*.part"))


def test_changed_added_and_removed_images_are_noticed(tmp_path, views, settings, encoded):
    images(views, settings)
    encoded.clear()
    write_picture(views[1].image, phase=2.0, age=OLD_NS + 10**9)
    cached = images(views, settings)
    assert encoded == ["b"]
    expected = ImageFiles().load(views[1], 2).astype(int)
    assert np.abs(cached.load(views[1], 2) - expected).mean() < 2
    views.append(annotation(write_picture(tmp_path / "data" / "d.jpg")))
    images(views, settings)
    assert encoded == ["b", "d"]
    views[0].image.unlink()
    views.append(annotation(write_picture(tmp_path / "data" / "e.jpg")))
    cached = images(views[1:], settings)
    assert encoded == ["b", "d", "e"], "the others are kept"
    with pytest.raises(DataError, match=r"a\.jpg is not in the image cache"):
        cached.content(str(views[0].image))
    for view in views[1:]:
        assert np.abs(cached.load(view, 2) - ImageFiles().load(view, 2).astype(int)).mean() < 2


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_images_that_another_run_uses_stay(views, settings, encoded, encoding):
    first = images(views[:2], settings, encoding)
    images(views[2:], settings, encoding)
    for cached in (first, images(views, settings, encoding)):
        for view in views:
            assert np.abs(cached.load(view, 2) - ImageFiles().load(view, 2).astype(int)).mean() < 2
    assert encoded == ["a", "b", "c"]


def test_a_complete_cache_is_not_written_to(views, settings, monkeypatch):
    images(views, settings)
    for file in settings["folder"].glob("*.lock"):
        file.unlink()

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(image_cache, "locked", refuse)
    assert images(views[1:], settings).load(views[1], 2).shape == (64, 128, 3)
    write_picture(views[0].image, phase=1.0, age=OLD_NS + 1)
    with pytest.raises(DataError, match=r"cannot be read or written \(Permission denied\)"):
        images(views, settings)


def test_what_a_killed_process_left_is_removed(views, settings):
    images(views[:1], settings)
    (path,) = settings["folder"].glob("*.h5")
    left, other = path.with_name(f".{path.stem}-12ab.part"), path.with_name(".images-v1-other-12ab.part")
    left.touch()
    other.touch()
    images(views, settings)
    assert sorted(settings["folder"].glob(".*.part")) == [other]


def test_data_of_the_same_name_elsewhere_have_another_cache(tmp_path, settings, monkeypatch):
    for project in ("one", "two"):
        write_pair_dataset(tmp_path / project / "data", pairs=2, size=(256, 128))
        monkeypatch.chdir(tmp_path / project)
        for sets in ("train", ["train"]):
            PairDataModule(
                ["tree"], "data", train_set=sets, image_size=(60, 120), image_cache=ImageCache("arrays", **settings)
            ).dataset("train")
    assert len(list(settings["folder"].glob("*.h5"))) == 2


def test_an_image_that_was_just_written_is_not_trusted_at_the_next_start(views, settings, encoded):
    views[0].image.touch()
    images(views, settings)
    images(views, settings)
    assert encoded == ["a", "b", "c", "a"]


def test_an_image_that_changes_in_the_middle_of_a_run_is_refused(views, settings):
    cached = images(views, settings)
    cached.load(views[0], 2)
    write_picture(views[0].image, phase=1.0, age=OLD_NS + 1)
    with pytest.raises(DataError, match=r"a\.jpg: the image has changed since"):
        cached.load(views[0], 2)
    views[0].image.unlink()
    with pytest.raises(DataError, match=r"a\.jpg: the image cannot be read"):
        cached.load(views[0], 2)


@pytest.mark.parametrize("damage", [b"", b"no HDF5", None])
def test_a_damaged_cache_is_made_again(views, settings, encoded, damage):
    images(views, settings)
    (path,) = settings["folder"].glob("*.h5")
    path.write_bytes(path.read_bytes()[:-3000] if damage is None else damage)
    told: list[str] = []
    cached = images(views, settings, told=told)
    assert len(encoded) == 6
    assert "cannot be used" in told[0]
    assert cached.load(views[0], 2).shape == (64, 128, 3)


def test_a_failed_start_leaves_the_old_cache(views, settings, tmp_path, encoded):
    images(views, settings)
    bad = tmp_path / "data" / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff no picture")
    with pytest.raises(DataError, match=r"bad\.jpg"):
        images([*views, annotation(bad)], settings)
    assert not list(settings["folder"].glob("*.part"))
    encoded.clear()
    images(views, settings)
    assert encoded == []


def test_a_folder_that_cannot_be_written_is_an_error(views, settings, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be read or written.*data/image_cache=none"):
        images(views, {**settings, "folder": tmp_path / "file"})


def test_other_settings_have_other_caches(views, settings):
    images(views, settings)
    images(views, settings, quality=50)
    images(views, settings, "arrays")
    assert len(list(settings["folder"].glob("*.h5"))) == 3


def read_in_child(cached, view, queue):
    queue.put(int(cached.load(view, 2).sum()))


def test_every_process_opens_the_file_for_itself(views, settings):
    cached = images(views, settings)
    expected = int(cached.load(views[0], 2).sum())
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    children = [context.Process(target=read_in_child, args=(cached, views[0], queue)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [queue.get() for _ in children] == [expected] * 2
    assert int(pickle.loads(pickle.dumps(cached)).load(views[0], 2).sum()) == expected


def test_another_run_may_replace_the_file_meanwhile(views, settings):
    cached = images(views, settings)
    before = cached.load(views[2], 2)
    late = images(views, settings)  # opens only after the file was replaced
    images(views[1:], settings)
    np.testing.assert_array_equal(cached.load(views[2], 2), before)
    np.testing.assert_array_equal(late.load(views[2], 2), before)


def build_in_child(views, settings, made):
    count = 0
    encode = ImageCache._encode

    def spy(self, view):
        nonlocal count
        count += 1
        return encode(self, view)

    ImageCache._encode = spy  # type: ignore[method-assign]
    images(views, settings)
    made.put(count)


def test_two_processes_do_not_make_the_same(views, settings):
    context = multiprocessing.get_context("fork")
    made = context.SimpleQueue()
    children = [context.Process(target=build_in_child, args=(views, settings, made)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert sorted(made.get() for _ in children) == [0, 3]


def test_a_bar_is_shown_on_a_terminal(views, settings, monkeypatch, capfd):
    monkeypatch.setenv("FORCE_COLOR", "1")
    images(views, {**settings, "progress": True})
    assert "Making the image cache" in capfd.readouterr().err


# setting, message
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoding": "png"}, "encoding is 'png'; expected one of jpeg, arrays"),
        ({"quality": 0}, "quality is 0"),
        ({"min_size": (300,)}, "min_size is"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        ImageCache(**values)
