"""CSV files: columns by name, classes by name or number, background images, and what is said of wrong lines."""

from typing import Any

import pytest

from crossview.data.csv_files import CsvReader
from crossview.data.errors import DataError
from crossview.data.photos import ImageAnnotations
from tests.data.make_photos import write_csv

GOOD = "0.jpg,4,14,5,25,car"


def read(root, sets="train", names=("car", "truck"), **settings) -> ImageAnnotations:
    return CsvReader(root, names, **{"use_cache": False, **settings}).read(sets)


def message(root, sets="train", **settings) -> str:
    with pytest.raises(DataError) as caught:
        read(root, sets, **settings)
    return str(caught.value)


def test_boxes_belong_to_their_images_in_whatever_order_they_come(tmp_path):
    write_csv(tmp_path, GOOD, "1.jpg,0,40,0,30,truck", "0.jpg,1.5,2.5,3,4,2")
    first, second = read(tmp_path).views
    assert (first.view, second.view) == ("0", "1")
    assert first.boxes.tolist() == [[4, 5, 14, 25], [1.5, 3, 2.5, 4]]
    assert first.labels.tolist() == [1, 2], "by name and by number"
    assert second.boxes.tolist() == [[0, 0, 40, 30]]


def test_columns_may_have_other_names_and_any_order(tmp_path):
    header = "label;frame;xmin;ymin;xmax;ymax;occluded"
    write_csv(tmp_path, "car; 0.jpg ;5;6;14;25;1", header=header)
    columns = {"image": "frame", "class": "label"}
    (view,) = read(tmp_path, columns=columns, delimiter=";", first_pixel=1).views
    assert view.boxes.tolist() == [[4, 5, 14, 25]], "counted from 1, inclusive"


def test_a_line_with_an_image_alone_is_a_background_image(tmp_path):
    write_csv(tmp_path, GOOD, "1.jpg,,,,,", "")
    assert [len(view.labels) for view in read(tmp_path).views] == [1, 0]


def test_quoted_cells_and_marks_of_other_systems(tmp_path):
    path = write_csv(tmp_path)
    path.write_bytes('\ufeffimage_name,xmin,xmax,ymin,ymax,class_id\r\n"0.jpg",4,14,5,25,"car"\r\n'.encode())
    assert read(tmp_path).views[0].boxes.tolist() == [[4, 5, 14, 25]]


def test_a_class_that_is_called_like_a_number_goes_before_the_number(tmp_path):
    write_csv(tmp_path, "0.jpg,4,14,5,25,2", "0.jpg,4,14,5,25,1")
    assert read(tmp_path, names=("2", "1")).views[0].labels.tolist() == [1, 2]


# lines, parts of the message
FAULTS = {
    "too short": ([GOOD, "0.jpg,1,2"], ["train.csv:3: found '0.jpg,1,2'"]),
    "no image": ([",4,14,5,25,car"], ["a line without an image", "train.csv:2"]),
    "no class": (["0.jpg,4,14,5,25,"], ["an object without a class", "train.csv:2: class_id is empty"]),
    "no number": ([GOOD, "0.jpg,4,x,5,25,car"], ["train.csv:3: found xmin '4', ymin '5', xmax 'x', ymax '25'"]),
    "empty corner": (["0.jpg,4,,5,25,car"], ["train.csv:2: found", "xmax ''"]),
    "nan": (["0.jpg,4,nan,5,25,car"], ["train.csv:2: found", "xmax 'nan'"]),
    "no area": (["0.jpg,4,4,5,25,car"], ["a box without area", "train.csv:2: car, xmin 4"]),
    "background": (["0.jpg,4,14,5,25,0"], ["unknown class '0'", "numbers 1 to 2", "train.csv:2"]),
    "other number": (["0.jpg,4,14,5,25,3"], ["unknown class '3'"]),
    "other name": (["0.jpg,4,14,5,25,Car"], ["unknown class 'Car' (did you mean car?)"]),
    "image not there": (["gone.jpg,4,14,5,25,car"], ["an image that is not there", "train.csv:2: gone.jpg"]),
    "open quote": (['"0.jpg,4,14,5,25,car'], ["malformed CSV", "train.csv:2"]),
    "nothing": ([], ["lists no images"]),
}


@pytest.mark.parametrize(("lines", "expected"), FAULTS.values(), ids=FAULTS)
def test_lines_that_are_wrong_are_reported_with_their_number(tmp_path, lines, expected):
    write_csv(tmp_path, *lines)
    text = message(tmp_path)
    for part in expected:
        assert part in text


def test_faults_of_several_lines_are_told_at_once(tmp_path):
    write_csv(tmp_path, "0.jpg,4,x,5,25,car", GOOD, "0.jpg,9,2,5,25,car", "1.jpg,1,2,3,4,bus")
    text = message(tmp_path)
    assert "3 faults" in text
    assert all(f"train.csv:{line}" in text for line in (2, 4, 5))


# header, part of the message
@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("image_name,xmin,xmax,ymin,ymax", "expected one column class_id; found image_name"),
        ("frame,xmin,xmax,ymin,ymax,class_id", "columns.image=NAME"),
        ("image_name,xmin,xmin,xmax,ymin,ymax,class_id", "expected one column xmin"),
        ("", "found nothing"),
        ('image_name,"xmin', "train.csv:2: malformed CSV"),
    ],
)
def test_a_column_that_is_missing_is_named(tmp_path, header, expected):
    write_csv(tmp_path, GOOD, header=header)
    assert expected in message(tmp_path)


# settings, part of the message
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"columns": {"picture": "frame"}}, "columns has picture; expected only image, xmin"),
        ({"delimiter": ", "}, "delimiter is ', '; expected one character"),
        ({"first_pixel": 3}, "first_pixel is 3"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(tmp_path, settings: dict[str, Any], expected):
    with pytest.raises(DataError, match=expected):
        CsvReader(tmp_path, ["car"], **settings)


def test_other_columns_need_another_cache(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    write_csv(root, "0.jpg,4,14,5,25,car,truck", header="image_name,xmin,xmax,ymin,ymax,one,two")
    settings: dict[str, Any] = {"use_cache": True, "cache_dir": tmp_path / "cache"}
    for _ in range(2):
        assert read(root, columns={"class": "one"}, **settings).views[0].labels.tolist() == [1]
        assert read(root, columns={"class": "two"}, **settings).views[0].labels.tolist() == [2]


def test_a_file_in_another_encoding_is_refused(tmp_path):
    write_csv(tmp_path).write_bytes(b"image_name,xmin\xff\n")
    assert "not UTF-8" in message(tmp_path)
