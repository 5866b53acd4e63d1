"""Image files: their size without decoding, and decoding that refuses broken files.

Conventions: sizes are (width, height) of the stored pixels. An EXIF orientation is ignored everywhere, so boxes,
sizes and pixels always speak of the same, stored raster. JPEG and PNG are told apart by content, not by file name.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import cv2
import numpy as np

from crossview.data.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

REDUCTIONS: Final = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""Factors by which a JPEG can be shrunk while it is decoded (which is faster than decoding all of it)."""

_JPEG_START: Final = b"\xff\xd8\xff"
_JPEG_END: Final = b"\xff\xd9"
_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_PNG_END: Final = b"IEND\xaeB`\x82"
# Start-of-frame markers: C0..CF without the tables DHT (C4), JPG (C8) and DAC (CC).
_FRAME_MARKERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN_MARKER: Final = 0xDA
# Some writers pad a file to a block size; that much is looked at before the whole file is searched for its end.
_TAIL: Final = 64


def read_image_size(path: Path | str) -> tuple[int, int]:
    """Width and height of an image file, from its header.

    Also checks that the file has its end marker, because decoders fill the rest of a cut JPEG with grey and say
    nothing. No pixel is decoded: about 30 microseconds a file.

    Args:
        path: A JPEG or PNG file.

    Returns:
        Width and height of the stored raster in pixels.

    Raises:
        DataError: If the file cannot be read, is neither JPEG nor PNG, or ends early.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - Path.open takes as long as all the rest
            return _size(file, path)
    except OSError as error:
        raise DataError(f"{path}: the image cannot be read ({error.strerror or error})") from error


def load_image(path: Path | str, reduction: int = 1) -> NDArray[np.uint8]:
    """Read and decode an image file, see `decode_image`.

    Raises:
        DataError: If the file cannot be read or decoded, is neither JPEG nor PNG, or ends early.
        ValueError: If `reduction` is none of `REDUCTIONS`.
    """
    return decode_image(read_image_file(path), path, reduction)


def read_image_file(path: Path | str) -> bytes:
    """The bytes of an image file.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the image cannot be read ({error.strerror or error})") from error


def decode_image(encoded: bytes, path: Path | str, reduction: int = 1) -> NDArray[np.uint8]:
    """Decode the bytes of an image.

    Args:
        encoded: A JPEG or PNG file.
        path: Where the bytes are from, for error messages.
        reduction: 1, 2, 4 or 8: the image is shrunk by this factor while decoding.

    Returns:
        (h, w, 3) uint8 RGB. With reduction r, h and w are height / r and width / r rounded (up for JPEG), so a
        caller must scale boxes by the shape of the result, not by 1 / r.

    Raises:
        DataError: If the image cannot be decoded, is neither JPEG nor PNG, or ends early.
        ValueError: If `reduction` is none of `REDUCTIONS`.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction}; expected one of {', '.join(map(str, REDUCTIONS))}")
    width, height = _size(io.BytesIO(encoded), path)
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), REDUCTIONS[reduction] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise DataError(f"{path}: the image cannot be decoded ({error.err}); replace the file") from error
    if image is None:
        raise DataError(f"{path}: the image ({width}x{height}) cannot be decoded; the file is damaged, replace it")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)  # type: ignore[return-value]


def _size(file: BinaryIO, path: Path | str) -> tuple[int, int]:
    """Size of an open image file; its format is found from the first bytes."""
    start = file.read(len(_PNG_START))
    if start.startswith(_JPEG_START):
        file.seek(2)
        width, height = _jpeg_size(file, path)
        end = _JPEG_END
    elif start == _PNG_START:
        width, height = _png_size(file, path)
        end = _PNG_END
    elif not start:
        raise DataError(f"{path}: the image file is empty; replace it")
    else:
        raise DataError(
            f"{path}: not a JPEG or PNG image (the file starts with {start!r}); convert it or replace the file"
        )
    if width < 1 or height < 1:
        raise DataError(f"{path}: the image header says {width}x{height} pixels; the file is damaged, replace it")
    if not _is_complete(file, end):
        raise DataError(
            f"{path}: the image ({width}x{height}) is truncated: its end marker is missing; copy or download it again"
        )
    return width, height


def _jpeg_size(file: BinaryIO, path: Path | str) -> tuple[int, int]:
    """Size from the frame header; leaves the file at its first scan."""
    size = None
    while True:
        marker = _next_marker(file)
        length = file.read(2)
        if marker is None or len(length) < 2:
            raise DataError(f"{path}: the image is truncated within its JPEG header; copy or download it again")
        body = int.from_bytes(length, "big") - 2
        if marker == _SCAN_MARKER:
            break
        if marker in _FRAME_MARKERS:
            frame = file.read(5)
            body -= len(frame)
            if len(frame) == 5:
                size = struct.unpack(">xHH", frame)
        file.seek(max(body, 0), os.SEEK_CUR)
    if size is None:
        raise DataError(f"{path}: the JPEG has no frame header; the file is damaged, replace it")
    height, width = size
    return width, height


def _next_marker(file: BinaryIO) -> int | None:
    """The next JPEG marker's second byte; None at the end of the file."""
    byte = file.read(1)
    while byte and byte != b"\xff":
        byte = file.read(1)
    while byte == b"\xff":
        byte = file.read(1)
    return byte[0] if byte else None


def _png_size(file: BinaryIO, path: Path | str) -> tuple[int, int]:
    """Size from the IHDR chunk, which comes first."""
    header = file.read(16)
    if len(header) < 16 or header[4:8] != b"IHDR":
        raise DataError(f"{path}: the image is truncated within its PNG header; copy or download it again")
    width, height = struct.unpack(">II", header[8:])
    return width, height


def _is_complete(file: BinaryIO, end: bytes) -> bool:
    """Whether the end marker follows the current position.

    Within JPEG scan data 0xFF is never followed by 0xD9, so the marker is only there if the image is whole; what
    may stand behind it (padding, a second image, a film) does not matter.
    """
    position = file.tell()
    file_end = file.seek(0, os.SEEK_END)
    file.seek(max(file_end - _TAIL, position))
    if file.read().rstrip(b"\0\r\n ").endswith(end):
        return True
    file.seek(position)
    return end in file.read()
