"""What the data modules ask of a reader of annotation files."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

from crossview.data.annotation import ImageAnnotation


class Found(Protocol):
    """What a reader returns; that of pairs has ``pairs`` too."""

    @property
    def views(self) -> Sequence[ImageAnnotation]:
        """Every distinct view once."""

    @property
    def notices(self) -> list[str]:
        """One-line remarks."""


class Reader(Protocol):
    """Reads image sets; made from the data root, the class names and options of its own.

    Attributes:
        config: the choice of the config group ``data`` that uses it.
        has_pairs: whether it finds pairs of panoramas; else single photos.
    """

    config: ClassVar[str]
    has_pairs: ClassVar[bool]

    def read(self, image_sets: str | Sequence[str]) -> Found:
        """Reads one image set or several together."""
