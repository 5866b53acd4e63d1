"""Reads photos with VOC annotations: the folders of the VOC challenges, or any folder of images and XML files.

```
ROOT/VOC2007/{JPEGImages,Annotations,ImageSets/Main}      and further years beside it
ROOT/{JPEGImages,Annotations,ImageSets/Main}              one year
ROOT/{images,annotations}                                 no image sets: split by name and seed
ROOT/                                                     images and XML files in one folder, likewise
```
Unless folders are configured, the first of these layouts that fits is taken. Several folders belong together as
`crossview.data.folders` says; without image sets the n-th image folder belongs to the n-th annotation folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from crossview.data.errors import SHOWN, DataError
from crossview.data.folders import Layout, OneOrMore, as_tuple, find_sources, find_views
from crossview.data.image_sets import VIEW_SETS, read_sets
from crossview.data.parsing import read_photo
from crossview.data.photos import Listing, PhotoReader

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from crossview.data.errors import Report
    from crossview.data.folders import Source
    from crossview.data.table import FileKey

_IMAGES: Final = ("JPEGImages", "images", "imgs", "img")
_ANNOTATIONS: Final = ("Annotations", "annotation", "xmls", "xml", "labels")
_SETS: Final = "ImageSets/Main"


class _Dirs(NamedTuple):
    """Folders below the root."""

    images: tuple[str, ...]
    annotations: tuple[str, ...]
    sets: tuple[str, ...]


class VocPhotoReader(PhotoReader):
    """Reads image sets of photos with their annotations.

    Args:
        root: The data root.
        class_names: Foreground classes in the order of their labels 1..C.
        image_dirs: Image folders below the root, one or a list; None: looked for, with the annotation folders.
        annotation_dirs: Annotation folders below the root; None: looked for, with the image folders.
        image_set_dirs: Image-set folders below the root; None: looked for if the other folders are; empty: there are
            none, or they are not to be used.
        **options: See `PhotoReader`.

    Raises:
        DataError: If a setting has no meaning.
    """

    config: ClassVar[str] = "voc"

    def __init__(
        self,
        root: str | os.PathLike[str],
        class_names: Sequence[str],
        *,
        image_dirs: OneOrMore | None = None,
        annotation_dirs: OneOrMore | None = None,
        image_set_dirs: OneOrMore | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root, class_names, **options)
        if (image_dirs is None) != (annotation_dirs is None):
            raise DataError(
                f"image_dirs is {image_dirs} and annotation_dirs is {annotation_dirs}; set both, or none to have them "
                "looked for"
            )
        self._dirs = None
        self._set_dirs = None if image_set_dirs is None else as_tuple(image_set_dirs)
        if image_dirs is not None and annotation_dirs is not None:
            self._dirs = _Dirs(as_tuple(image_dirs), as_tuple(annotation_dirs), self._set_dirs or ())

    def _list(self, names: Sequence[str], report: Report) -> Listing:
        dirs = self._dirs
        if dirs is None:
            found = _look_for(self.root)
            dirs = found if self._set_dirs is None else found._replace(sets=self._set_dirs)
            report.notices.append(
                f"in {self.root}: images in {', '.join(dirs.images)}, annotations in {', '.join(dirs.annotations)}, "
                + (f"image sets in {', '.join(dirs.sets)}" if dirs.sets else "no image sets")
            )
        layout = Layout(self.root, dirs.images, dirs.annotations, dirs.sets or dirs.annotations, self.image_suffixes)
        sources = find_sources(layout)
        keys = self._in_sets(sources, names, report) if dirs.sets else self._everywhere(sources, report)
        return Listing(keys, read_photo, is_whole=not dirs.sets)

    def _in_sets(self, sources: Sequence[Source], names: Sequence[str], report: Report) -> list[FileKey]:
        """The images of sets."""
        keys: dict[FileKey, None] = {}
        repeated: list[str] = []
        listed = read_sets(self.root, [source.sets for source in sources], names, VIEW_SETS, report)
        for source, views in zip(sources, listed, strict=True):
            places: dict[str, str] = {}
            for view in views:
                place = f"{view.file}:{view.line}"
                if places.setdefault(view.name, place) != place:
                    repeated.append(place)
            for name, key in find_views(source, places, self.image_suffixes, report.problems).items():
                if key in keys:
                    repeated.append(places[name])
                keys[key] = None
        if repeated:
            report.notices.append(
                f"{len(repeated)} images are listed more than once and read once (first: {repeated[0]})"
            )
        return list(keys)

    def _everywhere(self, sources: Sequence[Source], report: Report) -> list[FileKey]:
        """All images that have an annotation."""
        keys: list[FileKey] = []
        for source in sources:
            annotations, images = source.annotations, source.images
            if not annotations.files:
                raise DataError(f"{annotations.names}: no annotation (*.xml); correct data.root or annotation_dirs")
            places = {name: files[0] for name, files in annotations.files.items()}
            keys.extend(
                find_views(source, places, self.image_suffixes, report.problems, "remove the annotation").values()
            )
            if bare := [name for name in images.files if name not in annotations.files]:
                shown = ", ".join(bare[:SHOWN]) + (" ..." if len(bare) > SHOWN else "")
                report.notices.append(
                    f"{len(bare)} images in {images.names} have no annotation and are left out ({shown}); an image "
                    "without objects needs an annotation without objects"
                )
        return keys


def _look_for(root: Path) -> _Dirs:
    """The first known layout that the folder has; its own folder for what is not found."""
    if not root.is_dir():
        return _Dirs(_IMAGES[:1], _ANNOTATIONS[:1], ())  # the reader says that the root is not there
    years = [year.name for year in sorted(root.glob("VOC*")) if (year / _IMAGES[0]).is_dir()]
    if years:
        dirs = _Dirs(*(tuple(f"{year}/{name}" for year in years) for name in (_IMAGES[0], _ANNOTATIONS[0], _SETS)))
    else:
        folders = {entry.name.lower(): entry.name for entry in root.iterdir() if entry.is_dir()}
        images, annotations = (
            next((folders[name.lower()] for name in names if name.lower() in folders), ".")
            for names in (_IMAGES, _ANNOTATIONS)
        )
        dirs = _Dirs((images,), (annotations,), (_SETS,))
    return dirs if all((root / name).is_dir() for name in dirs.sets) else dirs._replace(sets=())
