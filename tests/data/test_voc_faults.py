"""Bad files: every message names the place, what was found, what was expected and what to do."""

import os
import socket

import pytest

from tests.data.make_voc import ANNOTATIONS, IMAGES, Item, View, write_sets, write_view
from tests.data.read_voc import message, with_view

# One faulty object on line 6, after a sound one: what the message says besides the place.
OBJECTS = {
    "xmin equals xmax": (
        Item((10, 5, 10, 25)),
        {},
        ["box without area", "xmin 10, ymin 5, xmax 10", "degenerate_"],
    ),
    "xmin beyond xmax": (Item((30, 5, 10, 25)), {}, ["box without area", "xmin 30", "xmin < xmax"]),
    "ymin beyond ymax": (Item((10, 25, 30, 5)), {}, ["box without area", "ymin 25"]),
    "outside": (
        Item((60, 5, 70, 25)),
        {"boxes_outside": "raise"},
        ["outside the image", "xmax 70", "boxes_outside=clip"],
    ),
    "unknown class": (
        Item(name="tre"),
        {},
        ["unknown class 'tre' (did you mean tree?)", "known are tree, pole", "exclude_classes", "include_classes"],
    ),
    "unlike any class": (Item(name="hydrant"), {}, ["unknown class 'hydrant':", "known are tree, pole"]),
    "class in capitals": (Item(name="TREE"), {}, ["unknown class 'TREE' (did you mean tree?)"]),
    "no name": (Item(name=None), {}, ["without a class", "no <name>"]),
    "empty name": (Item(name=" "), {}, ["without a class", "<name> is empty"]),
    "text for a coordinate": (Item(("a", 5, 30, 25)), {}, ["without a usable box", "xmin 'a'", "finite numbers"]),
    "empty coordinate": (Item(("", 5, 30, 25)), {}, ["without a usable box", "xmin ''"]),
    "comma in a coordinate": (Item(("1,5", 5, 30, 25)), {}, ["without a usable box", "xmin '1,5'"]),
    "not a number": (Item(("nan", 5, 30, 25)), {}, ["without a usable box", "xmin 'nan'"]),
    "infinite": (Item((10, 5, "inf", 25)), {}, ["without a usable box", "xmax 'inf'"]),
    "id a word": (Item(id="oak"), {}, ["<ID> is 'oak'", "a whole number"]),
    "id a fraction": (Item(id="1.5"), {}, ["<ID> is '1.5'"]),
    "id beyond int64": (Item(id=2**63), {}, [f"<ID> is '{2**63}'"]),
    "location of one number": (Item(location="34.1"), {}, ["<location> is '34.1'", "two finite numbers"]),
    "location of three numbers": (Item(location="1,2,3"), {}, ["<location> is '1,2,3'"]),
    "location with nan": (Item(location="34.1,nan"), {}, ["<location> is '34.1,nan'"]),
    "location off Earth": (Item(location="134.1,-218.2"), {}, ["location that is not on Earth", "found 134.1,-218.2"]),
    "location in the other order": (
        Item(location="-118.16,34.15"),
        {"location_order": "lat_lng"},
        ["location_order=lat_lng", "found -118.16,34.15"],
    ),
    "difficult neither 0 nor 1": (Item(difficult=2), {}, ["<difficult> is '2'", "0 or 1"]),
    "truncated a word": (Item(truncated="partly"), {}, ["<truncated> is 'partly'"]),
}


@pytest.mark.parametrize(("item", "settings", "expected"), OBJECTS.values(), ids=OBJECTS)
def test_faulty_objects(tmp_path, item, settings, expected):
    path = with_view(tmp_path, View([Item(), item]))
    found = message(tmp_path, **settings)
    assert found.startswith(f"1 fault in the data under {tmp_path}\n")
    for part in [*expected, f"{path}:6"]:
        assert part in found


def test_an_object_without_bndbox(tmp_path):
    path = with_view(tmp_path, View())
    path.write_text(path.read_text().replace("</annotation>", "<object><name>tree</name></object></annotation>"))
    assert f"{path}:5: no <bndbox>" in message(tmp_path)


def test_an_id_twice_in_one_view(tmp_path):
    path = with_view(tmp_path, View([Item(id=7), Item(id=8), Item(id=7)]))
    found = message(tmp_path)
    assert "2 faults" in found
    assert "an id twice in one view" in found
    assert "duplicate_ids=forget" in found
    assert f"{path}:5: tree, xmin 11" in found
    assert f"{path}:7: tree, xmin 11, ymin 6, xmax 30, ymax 25, ID 7" in found


POSES = {
    "no panocoords": (View(panocoords=None), {}, ":1: no <panocoords>"),
    "no yaw": (View(yaw=None), {}, ":1: no <yaw>"),
    "empty panocoords": (View(panocoords=""), {}, ":3: <panocoords> is ''"),
    "panocoords of words": (View(panocoords="here,there"), {}, ":3: <panocoords> is 'here,there'"),
    "panocoords of one number": (View(panocoords="34.1"), {}, ":3: <panocoords> is '34.1'"),
    "panocoords None": (View(panocoords="None"), {}, ":3: <panocoords> is 'None'"),
    "panocoords not finite": (View(panocoords="nan,1"), {}, ":3: <panocoords> is 'nan,1'"),
    "panocoords in the other order": (View(panocoords="-118.1,34.1"), {}, ": latitude -118.1, longitude 34.1"),
    "longitude beyond half a turn": (View(panocoords="34.1,241.8"), {}, ": latitude 34.1, longitude 241.8"),
    "yaw a word": (View(yaw="north"), {}, ":4: <yaw> is 'north'"),
    "yaw infinite": (View(yaw="inf"), {}, ":4: <yaw> is 'inf'"),
    "yaw in degrees": (View(yaw="51.99"), {}, ": yaw 51.99"),
    "negative yaw in degrees": (View(yaw="-51.99"), {}, ": yaw -51.99"),
    "yaw beyond two turns": (View(yaw="721"), {"yaw_unit": "degrees"}, ": yaw 721.0"),
}


@pytest.mark.parametrize(("view", "settings", "expected"), POSES.values(), ids=POSES)
def test_faulty_poses(tmp_path, view, settings, expected):
    path = with_view(tmp_path, view)
    found = message(tmp_path, **settings)
    assert f"{path}{expected}" in found
    assert "expected" in found


def test_yaw_in_degrees_suggests_the_setting(tmp_path):
    with_view(tmp_path, View(yaw="51.99"))
    assert "yaw_unit=degrees" in message(tmp_path)


FILES = {
    "empty": (b"", ["malformed XML", ":1: column"]),
    "cut": (b"<annotation>\n<size>\n<wid", ["malformed XML", ":3: column 5"]),
    "wrong nesting": (b"<annotation>\n<a></b>\n</annotation>", ["malformed XML", ":2: column 8", "mismatch"]),
    "not XML": (b"\xff\xd8\xff\xe0 JFIF", ["malformed XML", ":1: column"]),
    "unknown entity": (b"<annotation>&tree;</annotation>", ["malformed XML", "'tree'"]),
    "another document": (b"<html><body/></html>", ["not a VOC annotation", "found <html>"]),
    "very deep": (b"<annotation>" + b"<a>" * 100_000, ["malformed XML", "depth"]),
}


@pytest.mark.parametrize(("content", "expected"), FILES.values(), ids=FILES)
def test_faulty_annotation_files(tmp_path, content, expected):
    path = with_view(tmp_path, View())
    path.write_bytes(content)
    found = message(tmp_path)
    for part in [*expected, str(path)]:
        assert part in found


BOMB = '<!DOCTYPE a [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
DOCTYPES = {
    "entity bomb": (BOMB + "]>", "&j;"),
    "quadratic bomb": (f'<!DOCTYPE a [<!ENTITY a "{"x" * 100_000}">]>', "&a;" * 1000),
    "external entity": ('<!DOCTYPE a [<!ENTITY x SYSTEM "file://{secret}">]>', "&x;"),
    "external DTD": ('<!DOCTYPE annotation SYSTEM "file://{secret}">', ""),
    "network": ('<!DOCTYPE annotation SYSTEM "http://127.0.0.1:{port}/a.dtd">', ""),
    "parameter entity": ('<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1:{port}/a.dtd">%x;]>', ""),
    "harmless": ("<!DOCTYPE annotation>", ""),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-7"])
@pytest.mark.parametrize(("declaration", "content"), DOCTYPES.values(), ids=DOCTYPES)
def test_document_type_declarations_are_refused(tmp_path, declaration, content, encoding):
    secret = tmp_path / "secret.txt"
    secret.write_text("34.1,-118.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        declaration = declaration.replace("{secret}", str(secret)).replace("{port}", str(server.getsockname()[1]))
        path = with_view(tmp_path, View())
        head = f'<?xml version="1.0" encoding="{encoding}"?>\n'
        body = path.read_text().replace("</annotation>", f"<x a='1'>{content}</x></annotation>")
        # In UTF-7 the declaration hides from a search for its bytes; the XML head stays readable.
        hidden = declaration.replace("<", "+ADw-").replace("!", "+ACE-") if encoding == "utf-7" else declaration
        path.write_bytes((head + hidden + "\n" + body).encode("ascii" if encoding == "utf-7" else encoding))
        found = message(tmp_path)
        with pytest.raises(TimeoutError):
            server.accept()
    assert str(path) in found
    assert "document type declaration" in found or "malformed XML" in found
    assert "34.1" not in found.replace(str(tmp_path), "")
    if encoding != "utf-7":
        assert f"{path}:2: found <!DOCTYPE" in found
        assert "remove the declaration" in found


def test_a_huge_annotation_is_refused_without_parsing(tmp_path):
    path = with_view(tmp_path, View())
    with path.open("wb") as file:
        file.truncate(40 * 2**20)
    assert f"{path}: larger than 32 MB" in message(tmp_path)


IMAGE_FILES = {
    "empty": (lambda jpeg: b"", "is empty"),
    "cut in the pixels": (lambda jpeg: jpeg[:-40], "truncated: its end marker is missing"),
    "cut in the header": (lambda jpeg: jpeg[:100], "truncated within its JPEG header"),
    "a web page": (lambda jpeg: b"<html>404</html>", "not a JPEG or PNG image (the file starts with b'<html>40'"),
}


@pytest.mark.parametrize(("damage", "expected"), IMAGE_FILES.values(), ids=IMAGE_FILES)
def test_faulty_images(tmp_path, damage, expected):
    with_view(tmp_path, View([Item()]))
    path = tmp_path / IMAGES / "a.jpg"
    path.write_bytes(damage(path.read_bytes()))
    found = message(tmp_path)
    assert f"{path}: " in found
    assert expected in found


@pytest.mark.parametrize(("folder", "suffix"), [(IMAGES, ".jpg"), (ANNOTATIONS, ".xml")])
@pytest.mark.parametrize("kind", ["dangling link", "folder", "unreadable"])
def test_files_that_are_no_files(tmp_path, folder, suffix, kind):
    with_view(tmp_path, View())
    path = tmp_path / folder / f"a{suffix}"
    if kind == "unreadable":
        if os.geteuid() == 0:
            pytest.skip("the superuser can read everything")
        path.chmod(0)
    else:
        path.unlink()
        path.mkdir() if kind == "folder" else path.symlink_to(tmp_path / "gone")
    found = message(tmp_path)
    assert str(path) in found
    assert "cannot be" in found


def test_all_kinds_of_faults_are_told_at_once(tmp_path):
    names = [f"v{number:02d}" for number in range(16)]
    for name in names[:12]:
        write_view(tmp_path, name, View([Item((30, 5, 10, 25)), Item(name="car")]))
    write_view(tmp_path, "v12", View(yaw=None, panocoords="x"))
    for name in names[13:]:
        write_view(tmp_path, name, View([Item(id="x")]))
    image, annotation = tmp_path / IMAGES / "v15.jpg", tmp_path / ANNOTATIONS / "v15.xml"
    image.write_bytes(image.read_bytes()[:-30])
    annotation.write_text("<annotation>")
    write_sets(tmp_path, {"train": list(zip(names[::2], names[1::2], strict=True))})
    found = message(tmp_path)
    assert found.startswith("30 faults")  # 12 boxes, 12 classes, 2 of a pose, 2 ids, an image, an annotation
    assert "box without area: expected xmin < xmax and ymin < ymax" in found
    assert found.count("... and 2 more") == 2
    for part in (
        "unknown class 'car'",
        "no <yaw>",
        "<panocoords> is 'x'",
        "v13.xml:5: <ID> is 'x'",
        "v15.jpg: the image",
    ):
        assert part in found
    assert "v15.xml:1: column" in found


def test_faults_stay_faults_when_the_rest_is_cached(tmp_path):
    with_view(tmp_path, View([Item(id="x")]))
    assert message(tmp_path) == message(tmp_path)
