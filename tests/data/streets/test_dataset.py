"""Whole data sets: layout, contents of the files, determinism, and that nothing half-written stays behind."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from crossview.data.errors import DataError
from crossview.data.streets import dataset, sample
from crossview.data.streets.annotate import annotate_view
from crossview.data.streets.dataset import render_dataset
from crossview.data.streets.render import render_view
from crossview.data.streets.sample import ensure_sample
from crossview.data.streets.settings import StreetSettings
from crossview.data.streets.world import build_street
from crossview.data.streets.writer import written_pose
from crossview.geometry.frames import to_local

SMALL = StreetSettings(streets=3, panoramas_per_street=5, width=256)


def digests(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return render_dataset(tmp_path_factory.mktemp("streets") / "small", SMALL, workers=1)


def parse(root, name):
    return ElementTree.parse(root / f"VOC/Pasadena/Annotations_Multi/{name}.xml").getroot()


def test_layout(small):
    files = digests(small)
    names = {Path(file).stem for file in files if file.startswith("Images/")}
    assert len(names) == 15
    assert all(f"VOC/Pasadena/Annotations_Multi/{name}.xml" in files for name in names)
    used = {}
    for split, pairs in (("train", 4), ("val", 4), ("test", 4), ("train_few", 4), ("val_few", 2), ("test_few", 2)):
        lines = (small / f"VOC/Pasadena/ImageSets/Main/reid_neu/{split}.txt").read_text().splitlines()
        assert len(lines) == pairs
        used[split] = lines
        for line in lines:
            first, second = line.split()
            assert {first, second} <= names
            assert first != second
    streets = [
        {view.split("_")[0] for line in used[split] for view in line.split()} for split in ("train", "val", "test")
    ]
    assert len(set.union(*streets)) == sum(len(part) for part in streets)
    assert all(set(used[f"{split}_few"]) <= set(used[split]) for split in ("train", "val", "test"))
    assert len(files) == 15 + 15 + 6


def test_annotation_files(small):
    locations: dict[int, str | None] = {}
    for number in range(5):
        root = parse(small, f"street000_0{number}")
        image = cv2.imread(str(small / "Images" / str(root.findtext("filename"))))
        assert image is not None
        assert image.shape == (128, 256, 3)
        assert [root.findtext(f"size/{tag}") for tag in ("width", "height", "depth")] == ["256", "128", "3"]
        assert 0 <= float(str(root.findtext("yaw"))) < 2 * np.pi
        objects = list(root.iter("object"))
        assert objects
        ids = [int(str(item.findtext("ID"))) for item in objects]
        assert len(set(ids)) == len(ids)
        for item, identity in zip(objects, ids, strict=True):
            assert item.findtext("name") == "tree"
            xmin, ymin, xmax, ymax = (
                int(str(item.findtext(f"bndbox/{tag}"))) for tag in ("xmin", "ymin", "xmax", "ymax")
            )
            assert 1 <= xmin <= xmax <= 256
            assert 1 <= ymin <= ymax <= 128
            # one tree, one place, whatever view it is seen from
            assert locations.setdefault(identity, item.findtext("location")) == item.findtext("location")


def test_poses_are_where_the_streets_cameras_are(small):
    steps = []
    poses = [str(parse(small, f"street001_0{n}").findtext("panocoords")) for n in range(5)]
    for first, second in pairwise(poses):
        a, b = (np.array(text.split(","), dtype=np.float64) for text in (first, second))
        assert all(len(part.split(".")[1]) >= 8 for part in first.split(","))
        steps.append(float(np.hypot(*to_local(b, a))))
    assert min(steps) > 6.5
    assert max(steps) < 13.5


def test_same_bytes_from_a_pool_in_a_process_of_its_own(small, tmp_path):
    # A folder name that shells and config languages would stumble over.
    assert digests(ensure_sample(tmp_path / "it's a $cache=x", SMALL)) == digests(small)


def test_pose_noise_changes_the_written_pose_alone():
    camera = np.array((12.0, -30.0, 6.2))
    clean = [written_pose(StreetSettings(), 0, number, camera) for number in range(300)]
    noisy_settings = StreetSettings(gps_sigma_m=1.0, yaw_sigma_deg=2.0)
    noisy = [written_pose(noisy_settings, 0, number, camera) for number in range(300)]
    shifts = np.stack([to_local(b.latlng, a.latlng) for a, b in zip(clean, noisy, strict=True)])
    turns = np.array([(b.yaw - a.yaw + np.pi) % (2 * np.pi) - np.pi for a, b in zip(clean, noisy, strict=True)])
    np.testing.assert_allclose(shifts.std(axis=0), 1.0, atol=0.15)
    np.testing.assert_allclose(np.degrees(turns.std()), 2.0, atol=0.3)
    assert all(0 <= pose.yaw < 2 * np.pi for pose in noisy)
    tiny = StreetSettings(streets=3, panoramas_per_street=5, width=128)
    pictures = []
    for settings in (tiny, replace(tiny, gps_sigma_m=1.0, yaw_sigma_deg=2.0)):
        street = build_street(settings, 0)
        canvas = render_view(settings, street, 0)
        pictures.append((canvas.image, annotate_view(settings, canvas, street.trees)))
    np.testing.assert_array_equal(pictures[0][0], pictures[1][0])
    assert pictures[0][1] == pictures[1][1]


@pytest.mark.parametrize("kind", ["file", "folder with a file"])
def test_existing_output_is_refused(tmp_path, kind):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine").write_text("mine")
    with pytest.raises(FileExistsError, match="choose another out=DIR"):
        render_dataset(out, SMALL, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_to_an_empty_folder_stays_one(tmp_path):
    (tmp_path / "drive").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "drive")
    assert render_dataset(tmp_path / "out", SMALL, workers=1) == tmp_path / "drive"
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "out" / "Images").is_dir()


def test_a_mounted_drive_is_refused_before_anything_is_rendered(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path)
    with pytest.raises(FileExistsError, match="is where a drive is mounted; choose a folder below it"):
        render_dataset(tmp_path, SMALL, workers=1)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_failure_leaves_nothing(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(dataset, "write_pairs", fail)
    monkeypatch.setattr(dataset, "render_street", lambda *_: 5)
    with pytest.raises(type(error)):
        render_dataset(tmp_path / "out", SMALL, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_no_workers_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="workers=0"):
        render_dataset(tmp_path / "out", SMALL, workers=0)


def test_sample_is_rendered_once_for_all_who_ask(tmp_path, monkeypatch):
    rendered = []

    def render(target, settings):
        rendered.append(target)
        target.mkdir()

    monkeypatch.setattr(sample, "_render", render)
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: ensure_sample(tmp_path, SMALL), range(4)))
    assert len(rendered) == 1
    assert set(folders) == {tmp_path / f"streets-{SMALL.digest()}"}
    ensure_sample(tmp_path, StreetSettings(streets=4))
    assert len(rendered) == 2


def test_failed_sample_says_what_to_do(tmp_path):
    blocked = StreetSettings(streets=3, panoramas_per_street=5, width=128)
    target = tmp_path / f"streets-{blocked.digest()}"
    target.write_text("in the way")
    with pytest.raises(DataError, match="CROSSVIEW_CACHE"):
        ensure_sample(tmp_path, blocked)
