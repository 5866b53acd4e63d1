"""Image sizes from headers, and decoding that refuses broken files. PIL is the oracle."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from crossview.data.errors import DataError
from crossview.data.images import load_image, read_image_size


def smooth(width: int, height: int) -> np.ndarray:
    """(height, width, 3) RGB, different in every channel and corner."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack((x, y, 255 - x), axis=-1).astype(np.uint8)


def encode(image: np.ndarray, format="JPEG", mode="RGB", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).convert(mode).save(file, format=format, quality=95, **options)
    return file.getvalue()


def with_orientation(image: np.ndarray, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image, exif=exif)


def with_thumbnail(image: np.ndarray) -> bytes:
    """A JPEG whose EXIF block holds a whole second JPEG, with its own size and its own end."""
    return encode(image, exif=b"Exif\0\0" + encode(smooth(16, 8)))


WHOLE = {
    "baseline": lambda image: encode(image),
    "progressive": lambda image: encode(image, progressive=True),
    "grey": lambda image: encode(image, mode="L"),
    "CMYK": lambda image: encode(image, mode="CMYK"),
    "turned by EXIF": lambda image: with_orientation(image, 6),
    "upside down by EXIF": lambda image: with_orientation(image, 3),
    "EXIF thumbnail": with_thumbnail,
    "large profile": lambda image: encode(image, icc_profile=b"\xff\xd9" * 60_000),
    "padded": lambda image: encode(image) + b"\0" * 40,
    "followed by a film": lambda image: encode(image) + b"ftypmp42" * 5000,
    "fill bytes": lambda image: encode(image)[:2] + b"\xff\xff\xff" + encode(image)[2:],
    "PNG": lambda image: encode(image, format="PNG"),
    "PNG with alpha": lambda image: encode(image, format="PNG", mode="RGBA"),
    "PNG with palette": lambda image: encode(image, format="PNG", mode="P"),
    "PNG followed by more": lambda image: encode(image, format="PNG") + b"more" * 100,
}


@pytest.mark.parametrize("make", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize(("width", "height"), [(48, 32), (33, 17)])
def test_size_is_that_of_the_decoded_raster(tmp_path, make, width, height):
    path = tmp_path / "image.jpg"
    path.write_bytes(make(smooth(width, height)))
    assert read_image_size(path) == (width, height)
    assert load_image(path).shape == (height, width, 3)


@pytest.mark.parametrize("name", ["baseline", "progressive", "turned by EXIF", "upside down by EXIF", "PNG"])
def test_pixels_are_rgb_and_not_turned(tmp_path, name):
    path = tmp_path / "Straße 1.jpg"
    path.write_bytes(WHOLE[name](smooth(48, 32)))
    for reduction in (1, 2, 4, 8):
        image = load_image(path, reduction)
        expected = cv2.resize(smooth(48, 32), image.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert image.dtype == np.uint8
        assert np.abs(image.astype(int) - expected).mean() < 4


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [(1, (33, 17)), (2, (17, 9)), (4, (9, 5)), (8, (5, 3))],
)
def test_reduced_sizes_are_rounded_up(tmp_path, reduction, expected):
    path = tmp_path / "image.jpg"
    path.write_bytes(encode(smooth(33, 17)))
    assert load_image(path, reduction).shape[1::-1] == expected


def test_other_reductions_are_refused(tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(encode(smooth(33, 17)))
    with pytest.raises(ValueError, match="reduction is 3; expected one of 1, 2, 4, 8"):
        load_image(path, 3)


@pytest.mark.parametrize("name", ["baseline", "progressive", "EXIF thumbnail", "large profile", "PNG"])
def test_every_cut_is_noticed(tmp_path, name):
    path = tmp_path / "image.jpg"
    content = WHOLE[name](smooth(48, 32))
    for end in [*range(0, len(content) - 1, max(len(content) // 50, 1)), len(content) - 1]:
        path.write_bytes(content[:end])
        with pytest.raises(DataError, match=f"^{path}: "):
            read_image_size(path)
        with pytest.raises(DataError, match=f"^{path}: "):
            load_image(path)


def no_frame(jpeg: bytes) -> bytes:
    """A JPEG without its frame header."""
    start = jpeg.index(b"\xff\xc0")
    return jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big") :]


BROKEN = {
    "empty": (b"", "is empty"),
    "web page": (b"<!doctype html>", "not a JPEG or PNG image .the file starts with b'<!doctyp'"),
    "GIF": (encode(smooth(8, 8), format="GIF"), "not a JPEG or PNG image"),
    "WEBP": (encode(smooth(8, 8), format="WEBP"), "not a JPEG or PNG image"),
    "no frame": (no_frame(encode(smooth(8, 8))), "no frame header"),
    "no pixels": (encode(smooth(8, 8)).replace(b"\x08\x00\x08\x00\x08", b"\x08\x00\x00\x00\x00"), "says 0x0 pixels"),
    "PNG without header": (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "within its PNG header"),
}


@pytest.mark.parametrize(("content", "expected"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("function", [read_image_size, load_image])
def test_broken_files(tmp_path, content, expected, function):
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=expected) as caught:
        function(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("function", [read_image_size, load_image])
def test_missing_files(tmp_path, function):
    with pytest.raises(DataError, match=r"gone\.jpg: the image cannot be read \(No such file"):
        function(tmp_path / "gone.jpg")


def test_a_file_that_only_looks_whole(tmp_path):
    path = tmp_path / "image.png"
    content = bytearray(encode(smooth(48, 32), format="PNG"))
    content[45:60] = b"\0" * 15  # inside the compressed pixels
    path.write_bytes(bytes(content))
    assert read_image_size(path) == (48, 32)
    with pytest.raises(DataError, match=r"image\.png: the image \(48x32\) cannot be decoded"):
        load_image(path)
