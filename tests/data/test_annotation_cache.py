"""The cache of parsed annotations: what is read again, and what must never fail a run."""

import dataclasses
import io
import os
import stat
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossview.data import parsing
from crossview.data.annotation import ViewAnnotation
from crossview.data.errors import DataError
from crossview.data.voc import PairedAnnotations, PairedVocReader
from tests.data.make_voc import ANNOTATIONS, IMAGES, Item, View, write_pair_dataset, write_sets, write_view

NAMES = ["a", "b", "c", "d"]
OLD_NS = 1_600_000_000_000_000_000


def age(root: Path, by_ns: int = 0) -> None:
    """Give all files an old time, so that they are not taken for being written right now."""
    for folder in (IMAGES, ANNOTATIONS):
        for path in (root / folder).iterdir():
            os.utime(path, ns=(OLD_NS + by_ns, OLD_NS + by_ns))


@pytest.fixture
def root(tmp_path):
    for number, name in enumerate(NAMES):
        write_view(tmp_path / "data", name, View([Item(id=number, name="tree"), Item(name="pole", id=number + 50)]))
    write_sets(tmp_path / "data", {"train": [("a", "b"), ("c", "d")], "val": [("a", "c")]})
    age(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def cache_dir(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def parsed(monkeypatch):
    """The names of the views that were parsed, in order."""
    names: list[str] = []
    parse = parsing._parse

    def spy(key, read):
        names.append(Path(key[0]).stem)
        return parse(key, read)

    monkeypatch.setattr(parsing, "_parse", spy)
    return names


def read(root: Path, cache_dir: Path, sets="train", names=("tree", "pole"), **options) -> PairedAnnotations:
    return PairedVocReader(root, names, cache_dir=cache_dir, **options).read(sets)


def assert_same(one: PairedAnnotations, two: PairedAnnotations) -> None:
    """Results are equal in everything but remarks."""
    assert one.pairs == two.pairs
    for first, second in zip(one.views, two.views, strict=True):
        for field in dataclasses.fields(ViewAnnotation):
            np.testing.assert_equal(getattr(first, field.name), getattr(second, field.name))


def test_a_second_start_parses_nothing(root, cache_dir, parsed):
    first = read(root, cache_dir)
    assert sorted(parsed) == NAMES
    second = read(root, cache_dir)
    assert sorted(parsed) == NAMES
    assert_same(first, second)
    assert second.notices == []
    assert len(list(cache_dir.iterdir())) == 1


def test_sets_share_the_cache(root, cache_dir, parsed):
    read(root, cache_dir, "val")
    assert sorted(parsed) == ["a", "c"]
    read(root, cache_dir, "train")
    assert sorted(parsed) == ["a", "b", "c", "d"]
    read(root, cache_dir, ["val", "train"])
    assert len(parsed) == 4


def test_settings_do_not_need_another_cache(root, cache_dir, parsed):
    read(root, cache_dir)
    found = read(root, cache_dir, names=("pole",), include_classes=["pole"], yaw_unit="degrees")
    assert len(parsed) == 4
    assert [view.ids.tolist() for view in found.views] == [[50], [51], [52], [53]]
    assert found.views[0].yaw == pytest.approx(np.radians(0.9073966781118519))


def test_faults_found_by_settings_are_told_from_the_cache_too(root, cache_dir, parsed):
    read(root, cache_dir)
    with pytest.raises(DataError, match=r"unknown class 'pole'") as caught:
        read(root, cache_dir, names=["tree"])
    assert f"{root / ANNOTATIONS / 'a.xml'}:6" in str(caught.value)
    assert len(parsed) == 4


def lengthen(path: Path) -> None:
    """Make the file longer and leave its time."""
    path.write_bytes(path.read_bytes() + b"\n")
    os.utime(path, ns=(OLD_NS, OLD_NS))


# What happens to a file -> whether its view is parsed again.
CHANGES = {
    "nothing": (lambda path: None, False),
    "read": (lambda path: path.read_bytes(), False),
    "newer": (lambda path: os.utime(path, ns=(OLD_NS + 1, OLD_NS + 1)), True),
    "older": (lambda path: os.utime(path, ns=(OLD_NS - 10**9, OLD_NS - 10**9)), True),
    "longer with the old time": (lengthen, True),
}


@pytest.mark.parametrize(("change", "again"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(("folder", "suffix"), [(IMAGES, "jpg"), (ANNOTATIONS, "xml")])
def test_changes_are_noticed_by_time_and_size(root, cache_dir, parsed, folder, suffix, change, again):
    read(root, cache_dir)
    parsed.clear()
    change(root / folder / f"c.{suffix}")
    read(root, cache_dir)
    assert parsed == (["c"] if again else [])
    read(root, cache_dir)
    assert parsed == (["c"] if again else [])  # and it is kept again


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.sampled_from(["id", "class", "fewer", "pose", "size"]),
            st.sampled_from(["train", "val"]),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_whatever_changes_the_cache_reads_as_the_files(root, cache_dir, steps):
    for number, (name, kind, sets) in enumerate(steps):
        view = {
            "id": View([Item(id=number + 100), Item(name="pole")]),
            "class": View([Item(name=f"sort{number}")]),  # a new word in the vocabulary
            "fewer": View(),
            "pose": View([Item()], yaw=f"{number}", panocoords=f"{number},{number}"),
            "size": View([Item()], size=(64 + number, 40)),
        }[kind]
        write_view(root, name, view)
        for path in (root / IMAGES / f"{name}.jpg", root / ANNOTATIONS / f"{name}.xml"):
            os.utime(path, ns=(OLD_NS + number + 1, OLD_NS + number + 1))
        words = ["tree", "pole", *(f"sort{other}" for other in range(5))]
        cached = read(root, cache_dir, sets, words)
        assert_same(cached, read(root, cache_dir, sets, words, use_cache=False))


def test_a_file_changed_right_after_it_was_read_is_noticed(root, cache_dir):
    path = root / ANNOTATIONS / "a.xml"
    path.write_text(path.read_text().replace("<ID>0<", "<ID>3<"))
    times = path.stat()
    read(root, cache_dir)
    path.write_text(path.read_text().replace("<ID>3<", "<ID>4<"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # within one tick of the clock: same time, same size
    assert read(root, cache_dir).views[0].ids[0] == 4


def test_it_is_noticed_however_long_the_other_files_took(root, cache_dir, monkeypatch):
    path = root / ANNOTATIONS / "a.xml"
    path.write_text(path.read_text().replace("<ID>0<", "<ID>3<"))
    times = path.stat()
    parse = parsing._parse

    def slow(key, read):
        time.sleep(0.03)
        return parse(key, read)

    monkeypatch.setattr(parsing, "_parse", slow)
    read(root, cache_dir)
    path.write_text(path.read_text().replace("<ID>3<", "<ID>4<"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert read(root, cache_dir).views[0].ids[0] == 4


def test_files_from_the_future_are_cached(root, cache_dir, parsed):
    age(root, by_ns=10**18)  # a clock that is wrong by 30 years
    read(root, cache_dir)
    read(root, cache_dir)
    assert len(parsed) == 4


def test_the_cache_does_not_grow_with_changes(root, cache_dir):
    sizes = set()
    for step in range(3):
        age(root, by_ns=step)
        read(root, cache_dir)
        sizes.add(next(cache_dir.iterdir()).stat().st_size)
    assert len(sizes) == 1


def test_removed_views_leave_the_cache(root, cache_dir):
    read(root, cache_dir)
    cache = next(cache_dir.iterdir())
    assert b"b.xml" in cache.read_bytes()
    (root / ANNOTATIONS / "b.xml").unlink()
    os.utime(root / ANNOTATIONS / "a.xml", ns=(OLD_NS + 1, OLD_NS + 1))
    read(root, cache_dir, "val")
    assert b"b.xml" not in cache.read_bytes()


def test_faulty_views_are_not_cached_and_the_others_are(root, cache_dir, parsed):
    write_view(root, "b", View([Item(id="x")]))
    age(root)
    with pytest.raises(DataError, match="<ID> is 'x'"):
        read(root, cache_dir)
    parsed.clear()
    with pytest.raises(DataError, match="<ID> is 'x'") as caught:
        read(root, cache_dir)
    assert parsed == ["b"]
    assert f"{root / ANNOTATIONS / 'b.xml'}:5: <ID>" in str(caught.value)


def test_roots_do_not_mix(tmp_path, cache_dir, parsed):
    for number in "12":
        write_view(tmp_path / number, "a", View([Item(id=int(number))]))
        write_view(tmp_path / number, "b", View())
        write_sets(tmp_path / number, {"train": [("a", "b")]})
        age(tmp_path / number)
    for _ in range(2):
        assert [read(tmp_path / number, cache_dir).views[0].ids.tolist() for number in "12"] == [[1], [2]]
    assert len(parsed) == 4


def damaged(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :]


def npz(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


TEXTS = np.frombuffer(b'{"keys": [], "names": []}', np.uint8)
CORRUPT = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "text": lambda content: b"not a cache",
    "other arrays": lambda content: npz(a=np.zeros(3)),
    "a single array": lambda content: content[content.index(b"\x93NUMPY") :],
    "pickled": lambda content: npz(texts=np.array([{}], object), views=np.zeros(1), objects=np.zeros(1)),
    "other columns": lambda content: npz(texts=TEXTS, views=np.zeros(0), objects=np.zeros(0)),
}


@pytest.mark.parametrize("corrupt", CORRUPT.values(), ids=CORRUPT)
def test_a_corrupt_cache_is_made_anew(root, cache_dir, parsed, corrupt):
    first = read(root, cache_dir)
    cache = next(cache_dir.iterdir())
    cache.write_bytes(corrupt(cache.read_bytes()))
    second = read(root, cache_dir)
    assert_same(first, second)
    assert len(parsed) == 8
    assert [f"the annotation cache {cache} cannot be used" in notice for notice in second.notices] == [True]
    assert read(root, cache_dir).notices == []
    assert len(parsed) == 8


def test_no_damaged_byte_changes_what_is_read(root, cache_dir):
    first = read(root, cache_dir)
    cache = next(cache_dir.iterdir())
    content = cache.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(content), 120):
        cache.write_bytes(damaged(content, int(position)))
        assert_same(first, read(root, cache_dir))


@pytest.mark.parametrize("kind", ["a file", "below a file", "read-only"])
def test_a_cache_that_cannot_be_written_is_done_without(root, tmp_path, kind):
    folder = tmp_path / "cache"
    if kind == "read-only":
        if os.geteuid() == 0:
            pytest.skip("the superuser can write everywhere")
        folder.mkdir(mode=0o555)
    else:
        folder.touch()
        folder = folder / "deeper" if kind == "below a file" else folder
    found = read(root, folder)
    assert len(found.views) == 4
    assert any("cannot be written" in notice and "cache_dir" in notice for notice in found.notices)


def test_a_failed_write_leaves_the_old_cache_and_no_parts(root, cache_dir, monkeypatch):
    read(root, cache_dir, "val")
    cache = next(cache_dir.iterdir())
    before = cache.read_bytes()

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    found = read(root, cache_dir, "train")
    assert "No space left on device" in found.notices[0]
    assert list(cache_dir.iterdir()) == [cache]
    assert cache.read_bytes() == before


def test_no_cache(root, cache_dir):
    assert len(read(root, cache_dir, use_cache=False).views) == 4
    assert not cache_dir.exists()


def test_the_default_place_is_outside_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSVIEW_CACHE", str(tmp_path / "elsewhere"))
    root = write_pair_dataset(tmp_path / "data", pairs=1)
    age(root)
    PairedVocReader(root, ["tree"]).read("train")
    cache = next((tmp_path / "elsewhere").iterdir())
    assert not list(root.rglob("*.npz"))
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o666 & ~umask


def test_an_image_that_breaks_is_noticed(root, cache_dir):
    read(root, cache_dir)
    path = root / IMAGES / "a.jpg"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a\.jpg: the image .* is truncated"):
        read(root, cache_dir)


def test_an_image_that_is_resized_is_noticed(root, cache_dir):
    read(root, cache_dir)
    assert cv2.imwrite(str(root / IMAGES / "a.jpg"), np.zeros((50, 100, 3), np.uint8))
    view = read(root, cache_dir).views[0]
    assert (view.width, view.height) == (100, 50)
