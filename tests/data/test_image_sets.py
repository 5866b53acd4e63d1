"""Image-set files: what separates names, and lines that are no pairs."""

import pytest

from crossview.data.errors import DataError, Problems, Report
from crossview.data.image_sets import VIEW_SETS, available_sets, read_image_set, read_sets, read_view_set


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"a b\nc d\n", [1, 2]),
        (b"a     b\nc\td", [1, 2]),  # the notebook's five spaces, a tab, no line end
        (b"  a b \t\n\n \n\tc  \t d\n\n", [1, 4]),  # white space around, blank lines
        (b"\xef\xbb\xbfa b\r\nc d\r\n", [1, 2]),  # byte order mark, Windows line ends
        (b"a b\rc d\r", [1, 2]),  # old Mac line ends
    ],
)
def test_white_space(tmp_path, content, lines):
    path = tmp_path / "train.txt"
    path.write_bytes(content)
    problems = Problems(tmp_path)
    pairs = read_image_set(path, problems)
    assert [(pair.first, pair.second) for pair in pairs] == [("a", "b"), ("c", "d")]
    assert [pair.line for pair in pairs] == lines
    assert len(problems) == 0


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a", "not a pair"),
        ("a b 1", "not a pair"),
        ("# a b", "not a pair"),  # comments do not exist
        ("a a", "a view with itself"),
        ("Images/a b", "with a folder in it"),
        ("a ..", "with a folder in it"),
        ("a C:\\b", "with a folder in it"),
    ],
)
def test_lines_that_are_no_pairs(tmp_path, line, expected):
    path = tmp_path / "train.txt"
    path.write_text(f"a b\n\n{line}\nc d\n")
    problems = Problems(tmp_path)
    assert len(read_image_set(path, problems)) == 2
    with pytest.raises(DataError, match=expected) as caught:
        problems.raise_if_any()
    assert f"{path}:3: found {line!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a b\n".encode("utf-16"), "not UTF-8 text"),
        (b"a \xff\n", r"not UTF-8 text \(byte 2\)"),
    ],
)
def test_other_encodings(tmp_path, content, expected):
    path = tmp_path / "train.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=expected):
        read_image_set(path, Problems(tmp_path))


def test_available_sets(tmp_path):
    assert available_sets(tmp_path).endswith(": none")
    for name in ("val.txt", "train.txt", "notes.md"):
        (tmp_path / name).touch()
    assert available_sets(tmp_path).endswith(": train, val")


def test_single_views_stand_alone_or_with_the_flag_of_a_class(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("\ufeffa\r\n\n  b\t1\r\nc -1\nd 0\na b\ne/f\n", encoding="utf-8")
    problems = Problems(tmp_path)
    found = read_view_set(path, problems)
    assert [(view.name, view.line) for view in found] == [("a", 1), ("b", 3), ("d", 5)]
    with pytest.raises(DataError) as caught:
        problems.raise_if_any()
    assert f"{path}:6: found 'a b'" in str(caught.value)
    assert f"{path}:7: found 'e/f'" in str(caught.value)


# name of a set, what each of the folders one/Main and two/Main gives
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train", [["a"], ["b"]]),
        ("train.txt", [["a"], ["b"]]),
        ("one/train", [["a"], []]),
        ("two/Main/train", [[], ["b"]]),
        ("few/train", [["c"], []]),  # a folder within a folder of sets
    ],
)
def test_a_set_may_be_of_all_folders_or_of_one(tmp_path, name, expected):
    for file, view in {"one/Main/train": "a", "two/Main/train": "b", "one/Main/few/train": "c"}.items():
        path = tmp_path / f"{file}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(view)
    folders = [tmp_path / "one/Main", tmp_path / "two/Main"]
    listed = read_sets(tmp_path, folders, [name], VIEW_SETS, Report(Problems(tmp_path), []))
    assert [[view.name for view in views] for views in listed] == expected
