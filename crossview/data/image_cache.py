"""A cache of images in a smaller size, so that an epoch decodes fewer pixels than the files have.

One HDF5 file for the image sets of a split: the bytes of all images one after the other, and where each starts. It is
written beside its place and renamed, under a lock, so nobody ever sees half of it and two processes do not make the
same. An image whose file has another time or size than when it was taken in is taken in again at the next start, and
refused when it changes in the middle of a run.

Convention:
    Images are reduced by a whole factor that divides width and height and is a step of the augmentation's pixel grid
    (`raster.GRIDS`, so at most 4): all geometry stays in whole source pixels, boxes and cameras are the same to the
    last bit with and without the cache. What is finer than the cached size is interpolated.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

import cv2
import h5py
import numpy as np

from crossview.data.augment.raster import GRIDS, grid_of
from crossview.data.cache import TICK_NS
from crossview.data.cache_folder import default_cache_dir
from crossview.data.errors import DataError
from crossview.data.image_files import check_size
from crossview.data.images import decode_image, read_image_file
from crossview.data.locking import locked
from crossview.data.progress import mapped, with_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from crossview.data.annotation import ImageAnnotation
    from crossview.data.augment.raster import Image

Encoding = Literal["jpeg", "arrays"]

VERSION: Final = 1
"""Counts changes of the format: older caches are not looked at."""

_CHUNK: Final = 2**18
_BATCH: Final = 64  # images that are held in memory at once while the cache is made
_ENTRY: Final = np.dtype(
    [("start", np.int64), ("length", np.int64), ("time", np.int64), ("size", np.int64), ("factor", np.int64)]
)


class _Stamp(NamedTuple):
    """Modification time (ns) and size (bytes) of an image file."""

    time: int
    size: int


@dataclass(frozen=True)
class ImageCache:
    """Settings of the cache, and where it is.

    Attributes:
        encoding: "jpeg": compressed, about a tenth of the space; "arrays": pixels as they are, no time to decode.
        min_size: Height and width of which an image keeps at least as much; usually the network's.
        quality: Of the JPEGs, 1 to 100. Files that are not reduced are kept as they are.
        folder: Where caches are kept; None: with the annotation caches, see `default_cache_dir`.
        workers: Threads that make the cache.
        progress: Whether to show a progress bar on a terminal.

    Raises:
        ValueError: If a setting has no meaning.
    """

    encoding: Encoding = "jpeg"
    min_size: tuple[int, int] = (300, 600)
    quality: int = 95
    folder: str | os.PathLike[str] | None = None
    workers: int = 1
    progress: bool = True

    def __post_init__(self) -> None:
        if self.encoding not in get_args(Encoding):
            raise ValueError(f"encoding is {self.encoding!r}; expected one of {', '.join(get_args(Encoding))}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality is {self.quality}; expected 1 to 100")
        object.__setattr__(self, "min_size", tuple(self.min_size))
        if len(self.min_size) != 2 or min(self.min_size) < 1:
            raise ValueError(f"min_size is {self.min_size}; expected height and width in pixels")

    def images(self, views: Sequence[ImageAnnotation], name: str, tell: Callable[[str], None]) -> CachedImages:
        """The cached images of views; they are made first as far as they are not there or have changed.

        Args:
            views: The images, distinct.
            name: Of the cache: other names, other files.
            tell: Takes one-line remarks.

        Raises:
            DataError: An image cannot be read, or the cache cannot be written.
        """
        folder = default_cache_dir() if self.folder is None else Path(self.folder).expanduser()
        settings = f"{name} {self.encoding} {self.quality} {self.min_size}"
        path = folder / f"images-v{VERSION}-{hashlib.sha256(settings.encode()).hexdigest()[:16]}.h5"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(path.with_suffix(".lock")):
                self._bring_up_to_date(path, views, tell)
        except OSError as error:
            raise DataError(
                f"the image cache {path} cannot be written ({error.strerror or error}); set data.image_cache.folder to "
                "a folder with enough space, or data/image_cache=none"
            ) from error
        return CachedImages(path, self.encoding)

    def _bring_up_to_date(self, path: Path, views: Sequence[ImageAnnotation], tell: Callable[[str], None]) -> None:
        """Makes the cache anew from what can be kept of the old one and the files of the other images."""
        old = _read_index(path, tell)
        stamps = [_stamp(view.image) for view in views]
        keep = [
            (entry := old.get(str(view.image))) is not None and entry.stamp == stamp and entry.is_settled
            for view, stamp in zip(views, stamps, strict=True)
        ]
        if all(keep) and len(old) == len(views):
            return
        fresh = len(keep) - sum(keep)
        tell(f"Image cache {path}: {fresh} of {len(views)} images are made")
        started = time.time_ns()
        part = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.part")
        try:
            with h5py.File(part, "w") as file, closing(CachedImages(path, self.encoding)) as kept:
                blob = file.create_dataset("bytes", (0,), np.uint8, maxshape=(None,), chunks=(_CHUNK,))
                index = np.zeros(len(views), _ENTRY)
                contents = self._contents(views, keep, kept)
                shown = self.progress and fresh > 0
                bar = with_bar(contents, "Making the image cache", len(views), shown=shown)
                for row, (stamp, (factor, content)) in enumerate(zip(stamps, bar, strict=True)):
                    start = blob.shape[0]
                    blob.resize(start + len(content), axis=0)
                    blob[start:] = content
                    index[row] = start, len(content), *stamp, factor
                file["index"] = index
                file["paths"] = np.array([os.fsencode(view.image) for view in views] or [b" "])
                file.attrs["made"] = started
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _contents(
        self, views: Sequence[ImageAnnotation], keep: Sequence[bool], kept: CachedImages
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Factor and bytes of every image, kept or made."""

        def content(number: int) -> tuple[int, NDArray[np.uint8]]:
            return kept.content(views[number]) if keep[number] else self._encode(views[number])

        for start in range(0, len(views), _BATCH):
            rows = range(start, min(start + _BATCH, len(views)))
            yield from mapped(content, rows, 1 if any(keep) else self.workers)  # one thread only reads the old file

    def _encode(self, view: ImageAnnotation) -> tuple[int, NDArray[np.uint8]]:
        """The factor by which an image is reduced, and what is kept of it."""
        encoded = read_image_file(view.image)
        factor = factor_of(view, self.min_size)
        image = decode_image(encoded, view.image, factor)
        check_size(view, image, factor)
        if self.encoding == "arrays":
            return factor, image.reshape(-1)
        if factor == 1:
            return factor, np.frombuffer(encoded, np.uint8)
        _, made = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        return factor, made.reshape(-1)


def factor_of(view: ImageAnnotation, min_size: tuple[int, int]) -> int:
    """The largest factor on the pixel grid that leaves an image at least ``min_size`` (height, width); 1 if none."""
    grid = grid_of(view.width, view.height)
    fitting = (
        step
        for step in GRIDS
        if grid % step == 0 and view.height >= step * min_size[0] and view.width >= step * min_size[1]
    )
    return next(fitting, 1)


class _Entry(NamedTuple):
    """One image in the cache."""

    start: int
    length: int
    stamp: _Stamp
    factor: int
    is_settled: bool  # whether its file cannot have changed again within the same tick of the clock


class _Opened(NamedTuple):
    """The file as one process has opened it."""

    file: Any
    entries: dict[str, _Entry]
    process: int


class CachedImages:
    """Gives the pixels of cached images, see `ImageSource`. Every process opens the file for itself."""

    def __init__(self, path: Path, encoding: Encoding) -> None:
        """Names the file; nothing is opened yet."""
        self._path = path
        self._encoding = encoding
        self._opened: _Opened | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what belongs to this process."""
        return {**self.__dict__, "_opened": None}

    def close(self) -> None:
        """Closes the file if this process has opened it."""
        if self._opened is not None and self._opened.process == os.getpid():
            self._opened.file.close()
        self._opened = None

    def least_reduction(self, annotation: ImageAnnotation) -> int:
        """The factor by which the image is reduced."""
        return self._entry(annotation).factor

    def load(self, annotation: ImageAnnotation, reduction: int) -> Image:
        """The pixels (h, w, 3) RGB reduced by a multiple of `least_reduction`.

        Raises:
            DataError: The image's file is gone or has changed since it was taken into the cache.
        """
        entry = self._entry(annotation)
        if _stamp(annotation.image) != entry.stamp:
            raise DataError(
                f"{annotation.image}: the image has changed since it was taken into the image cache {self._path}; "
                "start again"
            )
        _, content = self.content(annotation)
        further = reduction // entry.factor
        if self._encoding == "jpeg":
            image = decode_image(content.tobytes(), annotation.image, further)
        else:
            height, width = annotation.height // entry.factor, annotation.width // entry.factor
            image = content.reshape(height, width, 3)
            if further > 1:
                image = cv2.resize(image, (width // further, height // further), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        check_size(annotation, image, reduction)
        return image

    def content(self, annotation: ImageAnnotation) -> tuple[int, NDArray[np.uint8]]:
        """The factor and the bytes of an image."""
        entry = self._entry(annotation)
        return entry.factor, self._open().file["bytes"][entry.start : entry.start + entry.length]

    def _entry(self, annotation: ImageAnnotation) -> _Entry:
        try:
            return self._open().entries[str(annotation.image)]
        except KeyError:
            raise DataError(f"{annotation.image} is not in the image cache {self._path}; start again") from None

    def _open(self) -> _Opened:
        # A handle that was inherited from the parent process shares its position in the file: it is left alone. Index
        # and bytes come from the same handle: another run may have put another file into this place.
        if self._opened is None or self._opened.process != os.getpid():
            file = h5py.File(self._path, "r", locking=False)
            self._opened = _Opened(file, _index(file), os.getpid())
        return self._opened


def _read_index(path: Path, tell: Callable[[str], None]) -> dict[str, _Entry]:
    """The images of a cache by path; none if there is no usable cache."""
    if not path.is_file():
        return {}
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _index(file)
    except Exception as error:
        # Damaged files fail in many ways, and none of them may stop a run that only needs to make the cache again.
        tell(f"the image cache {path} cannot be used ({error}): it is made again")
        return {}


def _index(file: Any) -> dict[str, _Entry]:  # noqa: ANN401  # h5py has no types
    """The images of an open cache by path.

    Raises:
        ValueError: If it does not fit the bytes.
    """
    rows, paths = file["index"][:].tolist(), file["paths"][:].tolist()
    made, end = int(file.attrs["made"]), file["bytes"].shape[0]
    if any(start + length > end for start, length, *_ in rows):
        raise ValueError("fewer bytes than expected")
    return {
        os.fsdecode(name): _Entry(start, length, _Stamp(changed, size), factor, abs(changed - made) > TICK_NS)
        for name, (start, length, changed, size, factor) in zip(paths, rows, strict=False)
    }


def _stamp(image: Path) -> _Stamp:
    try:
        status = image.stat()
    except OSError as error:
        raise DataError(f"{image}: the image cannot be read ({error.strerror or error})") from error
    return _Stamp(status.st_mtime_ns, status.st_size)
