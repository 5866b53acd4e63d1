"""Photos with VOC annotations: layouts, image sets of several years, the split by seed, and what is not looked at."""

from pathlib import Path

import pytest

from crossview.data.errors import DataError
from crossview.data.photos import ImageAnnotations
from crossview.data.voc_photos import VocPhotoReader
from tests.data.make_photos import write_folder, write_photo, write_xml, write_year
from tests.data.make_voc import Item

RACCOON = Path(__file__).resolve().parents[3] / "shared" / "data" / "raccoon"  # real photos, beside the checkout
YEARS = {
    "VOC2007": {"trainval": ["000001", "000002"], "test": ["000003"]},
    "VOC2012": {"trainval": ["2008_000001", "000001"]},
}


def read(root, sets="train", names=("tree", "pole"), **settings) -> ImageAnnotations:
    return VocPhotoReader(root, names, **{"use_cache": False, **settings}).read(sets)


def message(root, sets="train", **settings) -> str:
    with pytest.raises(DataError) as caught:
        read(root, sets, **settings)
    return str(caught.value)


@pytest.fixture
def years(tmp_path):
    for year, sets in YEARS.items():
        write_year(tmp_path, year, sets)
    return tmp_path


def where(found):
    """Year and name of every image."""
    return [f"{view.image.parts[-3]}/{view.view}" for view in found.views]


def test_several_years_are_read_together_each_from_its_own_folders(years):
    found = read(years, "trainval")
    # 000001 is another image in each year.
    assert where(found) == ["VOC2007/000001", "VOC2007/000002", "VOC2012/2008_000001", "VOC2012/000001"]
    assert all(view.source.parts[-3] == view.image.parts[-3] for view in found.views)
    assert found.views[0].boxes.tolist() == [[10, 5, 30, 25]]  # 0-based and half-open
    assert (found.views[0].width, found.views[0].height) == (40, 30)
    assert not found.views[0].is_panorama


def test_each_year_may_have_sets_of_its_own(years):
    assert where(read(years, ["VOC2007/trainval", "VOC2012/trainval"])) == where(read(years, "trainval"))
    assert where(read(years, "VOC2012/trainval")) == ["VOC2012/2008_000001", "VOC2012/000001"]
    found = read(years, "VOC2007/test")
    assert where(found) == ["VOC2007/000003"]
    assert not any("not in" in notice for notice in found.notices)
    assert any("is not in" in notice for notice in read(years, "test").notices), "VOC2012 has no test set"


def test_years_may_be_named(years):
    settings = {
        "image_dirs": ["VOC2007/JPEGImages", "VOC2012/JPEGImages"],
        "annotation_dirs": ["VOC2007/Annotations", "VOC2012/Annotations"],
        "image_set_dirs": ["VOC2007/ImageSets/Main", "VOC2012/ImageSets/Main"],
    }
    found = read(years, "trainval", **settings)
    assert where(found) == where(read(years, "trainval"))
    assert found.notices == []


def test_a_year_that_is_not_there_is_named(years):
    text = message(years, "VOC2010/train")
    assert "no image-set folder begins with" in text
    assert "VOC2010" in text
    assert str(years / "VOC2007/ImageSets/Main") in text


def test_a_missing_set_lists_what_is_there(years):
    assert "sets in" in (text := message(years, "val"))
    assert "test, trainval" in text


def test_sets_of_a_class_have_a_flag(tmp_path):
    write_year(tmp_path, ".", {"tree_train": ["a  1", "b -1", "c  0"]})
    assert [view.view for view in read(tmp_path, "tree_train").views] == ["a", "c"]


@pytest.mark.parametrize("line", ["a b", "a 2", "a 1 1", "x/a"])
def test_a_line_that_is_no_view_is_reported(tmp_path, line):
    write_year(tmp_path, ".", {"train": ["a"]})
    path = tmp_path / "ImageSets/Main/train.txt"
    path.write_text(f"a\n{line}\n")
    assert f"{path}:2: found {line!r}" in message(tmp_path)


def test_an_empty_set_is_an_error(tmp_path):
    write_year(tmp_path, ".", {"train": ["a"], "val": []})
    assert "val.txt: the image set has no images" in message(tmp_path, "val")


def test_an_image_in_two_sets_is_read_once(tmp_path):
    write_year(tmp_path, ".", {"train": ["a", "b"], "val": ["b"]})
    found = read(tmp_path, ["train", "val"])
    assert [view.view for view in found.views] == ["a", "b"]
    assert any("1 images are listed more than once" in notice for notice in found.notices)


def test_an_image_in_two_folders_of_sets_is_read_once(tmp_path):
    write_year(tmp_path, ".", {"train": ["a", "b"]})
    layout = tmp_path / "ImageSets/Layout"
    layout.mkdir()
    (layout / "train.txt").write_text("b\n")
    found = read(tmp_path, "train", image_set_dirs=["ImageSets/Main", "ImageSets/Layout"])
    assert [view.view for view in found.views] == ["a", "b"]
    assert f"1 images are listed more than once and read once (first: {layout}/train.txt:1)" in found.notices[-1]


def test_poses_ids_and_locations_of_other_peoples_files_are_not_looked_at(tmp_path):
    write_year(tmp_path, ".", {"train": ["a"]})
    item = Item(id="no number", location="Berlin", extra="<part><bndbox><xmin>1</xmin></bndbox></part>")
    write_xml(tmp_path / "Annotations/a.xml", [item], extra="<yaw>left</yaw>")
    (view,) = read(tmp_path).views
    assert len(view.labels) == 1
    assert not view.has_id.any()
    assert not view.has_location.any()


def test_policies_and_the_class_filter_are_those_of_all_readers(tmp_path):
    write_year(tmp_path, ".", {"train": ["a"]})
    items = [Item((5, 5, 50, 20)), Item((9, 9, 9, 12)), Item(name="car"), Item(name="pole", difficult=1)]
    path = write_xml(tmp_path / "Annotations/a.xml", items)
    text = message(tmp_path, boxes_outside="raise")
    assert "3 faults" in text
    assert f"{path}:4: tree, xmin 5, ymin 5, xmax 50" in text  # outside
    assert f"{path}:5: tree, xmin 9, ymin 9, xmax 9" in text  # without area
    assert "unknown class 'car'" in text
    assert f"{path}:6" in text
    (view,) = read(tmp_path, degenerate_boxes="drop", unknown_class="ignore").views
    assert view.boxes.tolist() == [[4, 4, 40, 20], [10, 5, 30, 25]]
    assert view.labels.tolist() == [1, 2]
    assert view.difficult.tolist() == [False, True]


def test_the_image_decides_its_size_and_a_wrong_one_is_said(tmp_path):
    write_year(tmp_path, ".", {"train": ["a"]})
    write_xml(tmp_path / "Annotations/a.xml", size=(30, 40))
    found = read(tmp_path)
    assert (found.views[0].width, found.views[0].height) == (40, 30)
    assert any("30x40, image 40x30" in notice and "EXIF" in notice for notice in found.notices)


def test_a_plain_folder_is_split_by_name_and_seed(tmp_path):
    write_folder(tmp_path, 60)
    parts = {part: {view.view for view in read(tmp_path, part).views} for part in ("train", "val", "test")}
    assert sum(map(len, parts.values())) == 60
    assert len(set.union(*parts.values())) == 60, "every image in one part"
    assert len(parts["train"]) > len(parts["test"]) > 0 < len(parts["val"])
    other = {view.view for view in read(tmp_path, "train", split={"seed": 1}).views}
    assert other != parts["train"]
    assert len(read(tmp_path, ["train", "val", "test"]).views) == 60
    for number in range(60, 80):  # more images leave those in place that were there
        write_photo(tmp_path / "images" / f"photo-{number}.jpg")
        write_xml(tmp_path / "annotations" / f"photo-{number}.xml")
    for part, before in parts.items():
        now = {view.view for view in read(tmp_path, part).views}
        assert {name for name in now if int(name[6:]) < 60} == before
    notices = read(tmp_path, "train").notices
    assert any("split by name and seed 0" in notice for notice in notices)


def test_one_folder_for_everything_will_do(tmp_path):
    for number in range(8):
        write_photo(tmp_path / f"{number}.jpg")
        write_xml(tmp_path / f"{number}.xml")
    assert len(read(tmp_path, ["train", "val", "test"]).views) == 8


def test_image_sets_need_not_be_used(years):
    found = read(years, ["train", "val", "test"], image_set_dirs=[])
    assert len(found.views) == 5


def test_an_image_without_annotation_is_left_out_and_said(tmp_path):
    write_folder(tmp_path, 6)
    write_photo(tmp_path / "images" / "bare.jpg")
    found = read(tmp_path, ["train", "val", "test"])
    assert len(found.views) == 6
    assert any("1 images" in notice and "bare" in notice for notice in found.notices)


def test_an_annotation_without_image_is_an_error(tmp_path):
    write_folder(tmp_path, 6)
    path = write_xml(tmp_path / "annotations" / "lonely.xml")
    text = message(tmp_path)
    assert "a view without image" in text
    assert "remove the annotation" in text
    assert str(path) in text


def test_an_image_without_objects_is_a_background_image(tmp_path):
    write_year(tmp_path, ".", {"train": ["a"]}, items=[])
    assert read(tmp_path).views[0].boxes.shape == (0, 4)


# settings, part of the message
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"split": {"val": 0.5, "test": 0.5}}, "split has val 0.5 and test 0.5"),
        ({"split": {"val": -0.1}}, "split has val -0.1"),
        ({"split": {"valid": 0.1}}, "split has valid; expected only val, test, seed"),
        ({"image_dirs": "images"}, "annotation_dirs is None; set both"),
        ({"class_names": ["background"]}, "class_names has 'background'"),
        ({"boxes_outside": "keep"}, "boxes_outside is 'keep'"),
        ({"boxes_outside": "wrap"}, "boxes_outside is 'wrap'; expected one of raise, clip, drop"),
        ({"first_pixel": 2}, "first_pixel is 2; expected one of 0, 1"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(tmp_path, settings, expected):
    values = {"class_names": ["tree"], **settings}
    with pytest.raises(DataError, match=expected):
        VocPhotoReader(tmp_path, **values)


def test_a_part_that_is_none_or_empty_is_an_error(tmp_path):
    write_folder(tmp_path, 2)
    assert "image set trainval: the images under" in message(tmp_path, "trainval")
    assert "the split leaves no image for val: 2 images" in message(tmp_path, "val", split={"val": 0.0})


def test_missing_folders_are_named(tmp_path):
    assert "root: the folder" in message(tmp_path / "nothing")
    assert "no annotation (*.xml)" in message(tmp_path)
    text = message(tmp_path, image_dirs="a", annotation_dirs="b")
    assert str(tmp_path / "b") in text or str(tmp_path / "a") in text


@pytest.mark.parametrize("content", ["<annotation><object>", "<!DOCTYPE x><annotation/>", "<kml/>"])
def test_a_broken_annotation_is_named(tmp_path, content):
    write_year(tmp_path, ".", {"train": ["a"]})
    path = tmp_path / "Annotations/a.xml"
    path.write_text(content)
    assert f"{path}:1" in message(tmp_path)


def test_parsed_files_are_cached_apart_from_those_of_panoramas(tmp_path):
    root = write_folder(tmp_path / "data", 3)
    sets, cache = ["train", "val", "test"], tmp_path / "cache"
    first = read(root, sets, use_cache=True, cache_dir=cache)
    assert [file.name.startswith("voc-photos-") for file in cache.iterdir()] in ([True], [])
    second = read(root, sets, use_cache=True, cache_dir=cache)
    assert [view.boxes.tolist() for view in first.views] == [view.boxes.tolist() for view in second.views]


@pytest.mark.skipif(not RACCOON.is_dir(), reason="the photos of raccoons are not here")
def test_real_photos_in_a_plain_folder():
    found = read(RACCOON, ["train", "val", "test"], names=["raccoon"])
    assert len(found.views) == 200
    assert sum(len(view.labels) for view in found.views) == 217
