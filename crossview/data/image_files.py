"""Where a data set takes its pixels from: the image files themselves, or something made from them."""

from typing import Protocol

from crossview.data.annotation import ImageAnnotation
from crossview.data.augment.raster import Image
from crossview.data.errors import DataError
from crossview.data.images import load_image


class ImageSource(Protocol):
    """Gives the pixels of annotated images."""

    def least_reduction(self, annotation: ImageAnnotation) -> int:
        """The factor by which the image is reduced already, 1 for none; it divides width and height."""

    def load(self, annotation: ImageAnnotation, reduction: int) -> Image:
        """The pixels (h, w, 3) RGB, reduced by a factor that divides width and height.

        Raises:
            DataError: the image is missing, damaged, or has changed since the annotations were read.
        """


class ImageFiles:
    """The image files as they are."""

    def least_reduction(self, annotation: ImageAnnotation) -> int:
        """Always 1."""
        return 1

    def load(self, annotation: ImageAnnotation, reduction: int) -> Image:
        """Decodes the file, see `ImageSource.load`."""
        image = load_image(annotation.image, reduction)
        check_size(annotation, image, reduction)
        return image


def check_size(annotation: ImageAnnotation, image: Image, reduction: int) -> None:
    """Compares a decoded image with what its annotation says.

    Raises:
        DataError: it has another size.
    """
    if image.shape[:2] != (annotation.height // reduction, annotation.width // reduction):
        height, width = (length * reduction for length in image.shape[:2])
        raise DataError(
            f"{annotation.image}: the image is {width}x{height} pixels, but was {annotation.width}x{annotation.height} "
            "when the annotations were read; it has changed since: start again"
        )
