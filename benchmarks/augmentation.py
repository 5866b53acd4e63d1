"""What augmenting an image of 1024x2048 pixels to 300x600 costs: ``python -m benchmarks.run augmentation``.

The package's chain of SSD for a single view (expand to up to 4 times, crop, mirror, colours, one of five
interpolations), from pixels in memory and from a JPEG that is decoded each time, against `plain_augment`. The figures
of ssd_keras (median 101.6 ms, mean 144.1 ms) were measured on another machine.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.benchmark import Benchmark, Ratio, Report
from benchmarks.plain_augmentation import plain_augment
from benchmarks.timing import PROCESSOR, in_turn, one_thread
from crossview.data.annotation import ImageAnnotation
from crossview.data.augment import Augmentation, Crop, Expand, Interpolation, Mirror, Photometric
from crossview.data.augment.raster import Image
from crossview.data.image_files import ImageSource
from crossview.data.views import ViewDataset

INPUTS = Path(__file__).parents[1] / "tests" / "golden" / "speed_inputs.npz"
NETWORK = (300, 600)
PLAIN, IN_MEMORY, JPEG = "plain OpenCV, in memory", "crossview, in memory", "crossview, from a JPEG"


def smooth_noise(width: int, height: int, seed: int = 0) -> Image:
    """A picture (H, W, 3) that costs a decoder as much as a photo."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 5)
    return cv2.normalize(blurred, np.empty_like(blurred), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


class InMemory:
    """An image source whose image is decoded already; a reduction is averaged as a decoder does."""

    def __init__(self, image: Image) -> None:
        self._image = image

    def least_reduction(self, annotation: ImageAnnotation) -> int:
        """Always 1."""
        return 1

    def load(self, annotation: ImageAnnotation, reduction: int) -> Image:
        """The image, reduced."""
        if reduction == 1:
            return self._image
        size = self._image.shape[1] // reduction, self._image.shape[0] // reduction
        return cv2.resize(self._image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def dataset(path: Path, image: Image, boxes: NDArray[np.float64], images: ImageSource | None) -> ViewDataset:
    """A data set of one photo, augmented."""
    none = np.zeros(len(boxes), bool)
    annotation = ImageAnnotation(
        view="image",
        image=path,
        source=path,
        width=image.shape[1],
        height=image.shape[0],
        boxes=boxes,
        labels=np.ones(len(boxes), np.int64),
        ids=np.zeros(len(boxes), np.int64),
        has_id=none,
        difficult=none,
        truncated=none,
        locations=np.zeros((len(boxes), 2)),
        has_location=none,
    )
    chain = Augmentation(
        expand=Expand(max_ratio=4.0),
        crop=Crop(),
        mirror=Mirror(),
        photometric=Photometric(),
        interpolation=Interpolation(),
    )
    return ViewDataset([annotation], NETWORK, chain, images=images)


@dataclass(frozen=True)
class AugmentationSpeed(Benchmark):
    """The benchmark.

    Attributes:
        width: of the image.
        height: of the image; the network's is 300x600.
    """

    name: ClassVar[str] = "augmentation"
    title: ClassVar[str] = "Augmentation of one image"
    rounds: int = 120
    width: int = 2048
    height: int = 1024

    @classmethod
    def tiny(cls) -> "AugmentationSpeed":
        """A quarter of the size, twice."""
        return cls(2, 512, 256)

    def measure(self) -> Report:
        """Measures, on one thread by the processor's clock."""
        with np.load(INPUTS) as stored:
            boxes = stored["augment_boxes"].astype(np.float64) * self.width / 2048
        rng, counter = np.random.default_rng(0), iter(range(10**9))
        image = smooth_noise(self.width, self.height)
        with one_thread(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "image.jpg"
            cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
            in_memory, on_disk = dataset(path, image, boxes, InMemory(image)), dataset(path, image, boxes, None)
            times = in_turn(
                {
                    PLAIN: lambda: plain_augment(image, boxes, rng, NETWORK),
                    IN_MEMORY: lambda: in_memory[next(counter), 0],
                    JPEG: lambda: on_disk[next(counter), 0],
                },
                self.rounds,
                PROCESSOR,
                warm_up=3,
            )
        report = Report()
        report.add_times(times)
        for name in (IN_MEMORY, JPEG):
            report.ratios += [
                Ratio(f"median of {PLAIN} / {name}", times[PLAIN].median / times[name].median),
                Ratio(f"mean of {PLAIN} / {name}", times[PLAIN].mean / times[name].mean),
            ]
        report.notes.append(f"{self.height}x{self.width} to {NETWORK[0]}x{NETWORK[1]}, one thread, processor time")
        return report
