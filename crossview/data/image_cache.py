"""A cache of images in a smaller size, so that an epoch decodes fewer pixels than the files have.

One HDF5 file for the image sets of a split: the bytes of all images one after the other, and where each starts. It is
written beside its place and renamed, under a lock, so nobody ever sees half of it and two processes do not make the
same. An image whose file has another time or size than when it was taken in is taken in again at the next start, and
refused when it changes in the middle of a run. Images that only other runs use stay in it as long as their files do.

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
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

import cv2
import h5py
import numpy as np

from crossview.data.augment.raster import GRIDS, grid_of
from crossview.data.cache_folder import default_cache_dir
from crossview.data.cached_images import ENTRY, CachedImages, Encoding, Entry, Stamp, read_index, stamp_of
from crossview.data.errors import DataError
from crossview.data.image_files import check_size
from crossview.data.images import decode_image, read_image_file
from crossview.data.locking import locked
from crossview.data.progress import mapped, with_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from crossview.data.annotation import ImageAnnotation

VERSION: Final = 1
"""Counts changes of the format: older caches are not looked at."""

_CHUNK: Final = 2**18
_BATCH: Final = 64  # images that are held in memory at once while the cache is made


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
            DataError: An image cannot be read, or the cache cannot be read or written.
        """
        folder = default_cache_dir() if self.folder is None else Path(self.folder).expanduser()
        settings = f"{name} {self.encoding} {self.quality} {self.min_size}"
        path = folder / f"images-v{VERSION}-{hashlib.sha256(settings.encode()).hexdigest()[:16]}.h5"
        stamps = {str(view.image): stamp_of(view.image) for view in views}
        try:
            if not _holds(read_index(path, tell), stamps):
                folder.mkdir(parents=True, exist_ok=True)
                with locked(path.with_suffix(".lock")):
                    self._bring_up_to_date(path, views, stamps, tell)
        except OSError as error:
            raise DataError(
                f"the image cache {path} cannot be read or written ({error.strerror or error}); remove it if it is "
                "damaged, set data.image_cache.folder to a folder with enough space, or data/image_cache=none"
            ) from error
        return CachedImages(path, self.encoding)

    def _bring_up_to_date(
        self, path: Path, views: Sequence[ImageAnnotation], stamps: dict[str, Stamp], tell: Callable[[str], None]
    ) -> None:
        """Makes the cache anew from what can be kept of the old one and the files of the other images."""
        old = read_index(path, tell)
        if _holds(old, stamps):  # by the process that held the lock before
            return
        keep = {name: entry.stamp for name, entry in old.items() if entry.is_settled and _is(name, entry.stamp)}
        fresh = {name: stamp for name, stamp in stamps.items() if name not in keep}
        tell(f"Image cache {path}: {len(fresh)} of {len(views)} images are made")
        started = time.time_ns()
        for left in path.parent.glob(f".{path.stem}-*.part"):
            left.unlink(missing_ok=True)  # by a process that was killed: whoever writes holds the lock
        part = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.part")
        try:
            with h5py.File(part, "w") as file, closing(CachedImages(path, self.encoding)) as kept:
                blob = file.create_dataset("bytes", (0,), np.uint8, maxshape=(None,), chunks=(_CHUNK,))
                index = np.zeros(len(keep) + len(fresh), ENTRY)
                made = self._encoded([view for view in views if str(view.image) in fresh])
                contents = chain(map(kept.content, keep), made)
                shown = self.progress and len(fresh) > 0
                bar = with_bar(contents, "Making the image cache", len(index), shown=shown)
                stated = chain(keep.values(), fresh.values())
                for row, (stamp, (factor, content)) in enumerate(zip(stated, bar, strict=True)):
                    start = blob.shape[0]
                    blob.resize(start + len(content), axis=0)
                    blob[start:] = content
                    index[row] = start, len(content), *stamp, factor
                file["index"] = index
                file["paths"] = np.array([os.fsencode(name) for name in chain(keep, fresh)] or [b" "])
                file.attrs["made"] = started
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _encoded(self, views: Sequence[ImageAnnotation]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Factor and bytes of images from their files."""
        for start in range(0, len(views), _BATCH):
            yield from mapped(self._encode, views[start : start + _BATCH], self.workers)

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


def _holds(entries: dict[str, Entry], stamps: dict[str, Stamp]) -> bool:
    """Whether a cache has all images as they are now, so that there is nothing to make."""
    return all(
        (entry := entries.get(name)) is not None and entry.stamp == stamp and entry.is_settled
        for name, stamp in stamps.items()
    )


def _is(image: str, stamp: Stamp) -> bool:
    """Whether an image file is still there and the same."""
    try:
        return stamp_of(Path(image)) == stamp
    except DataError:
        return False
