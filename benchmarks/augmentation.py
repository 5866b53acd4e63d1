"""What augmenting an image of 1024x2048 pixels to 300x600 costs: ``python -m benchmarks.augmentation``.

In turn, in the same process: the package's chain of SSD for a single view (expand to up to 4 times, crop, mirror,
colours, one of five interpolations), from pixels in memory and from a JPEG that is decoded each time; and a yardstick
that does the same in the order of ssd_keras, with OpenCV: colours at full size, the whole canvas, crop, mirror, resize.
Its draws are of the same kinds and odds, not the same. The figures of ssd_keras (median 101.6 ms, mean 144.1 ms) were
measured on another machine.

Times are of the processor and of one thread, which other work on the machine disturbs less than the wall clock.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from crossview.data.annotation import ImageAnnotation
from crossview.data.augment import Augmentation, Crop, Expand, Interpolation, Mirror, Photometric
from crossview.data.augment.raster import INTERPOLATIONS, Image
from crossview.data.image_files import ImageSource
from crossview.data.views import ViewDataset

Boxes = NDArray[np.float64]

INPUTS = Path(__file__).parents[1] / "tests" / "golden" / "speed_inputs.npz"
WIDTH, HEIGHT = 2048, 1024
NETWORK = (300, 600)
ROUNDS = 120
FILL = (123, 117, 104)
MIN_IOUS = (None, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9)


# The yardstick


def plain_colors(image: Image, rng: np.random.Generator) -> Image:
    """Brightness, contrast, saturation and hue, each with even odds, at the size of the image."""
    contrast_last = rng.random() < 0.5

    def contrast(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.clip(127.5 + rng.uniform(0.5, 1.5) * (pixels - 127.5), 0, 255) if rng.random() < 0.5 else pixels

    pixels = image.astype(np.float32)
    if rng.random() < 0.5:
        pixels = np.clip(pixels + rng.uniform(-32, 32), 0, 255)
    if not contrast_last:
        pixels = contrast(pixels)
    turned = cv2.cvtColor(pixels.astype(np.uint8), cv2.COLOR_RGB2HSV).astype(np.float32)
    if rng.random() < 0.5:
        turned[..., 1] = np.clip(turned[..., 1] * rng.uniform(0.5, 1.5), 0, 255)
    if rng.random() < 0.5:
        turned[..., 0] = (turned[..., 0] + rng.uniform(-18, 18)) % 180
    pixels = cv2.cvtColor(turned.astype(np.uint8), cv2.COLOR_HSV2RGB).astype(np.float32)
    return (contrast(pixels) if contrast_last else pixels).astype(np.uint8)


def plain_expand(image: Image, boxes: Boxes, rng: np.random.Generator) -> tuple[Image, Boxes]:
    """The image somewhere on a canvas of up to four times its sides, with even odds."""
    if rng.random() < 0.5:
        return image, boxes
    ratio, (height, width) = rng.uniform(1, 4), image.shape[:2]
    canvas = np.empty((int(height * ratio), int(width * ratio), 3), np.uint8)
    canvas[:] = FILL
    top, left = int(rng.uniform(0, canvas.shape[0] - height + 1)), int(rng.uniform(0, canvas.shape[1] - width + 1))
    canvas[top : top + height, left : left + width] = image
    return canvas, boxes + np.array((left, top, left, top))


def plain_crop(image: Image, boxes: Boxes, rng: np.random.Generator) -> tuple[Image, Boxes]:
    """The first of 50 windows that overlaps a box by a drawn IoU; boxes whose centre is outside are dropped."""
    height, width = image.shape[:2]
    least = MIN_IOUS[int(rng.integers(len(MIN_IOUS)))]
    for _ in range(50 if least is not None else 0):
        w, h = int(rng.uniform(0.3, 1) * width), int(rng.uniform(0.3, 1) * height)
        if not 0.5 <= (w / width) / (h / height) <= 2:
            continue
        left, top = int(rng.uniform(0, width - w + 1)), int(rng.uniform(0, height - h + 1))
        window = np.array([left, top, left + w, top + h])
        shared = np.clip(np.minimum(boxes[:, 2:], window[2:]) - np.maximum(boxes[:, :2], window[:2]), 0, None).prod(1)
        iou = shared / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + w * h - shared)
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((center >= window[:2]) & (center < window[2:])).all(1)
        if (iou >= (least or 0)).any() and inside.any():
            moved = np.clip(boxes[inside] - (left, top, left, top), 0, (w, h, w, h))
            return image[top : top + h, left : left + w].copy(), moved
    return image, boxes


def plain_augment(image: Image, boxes: Boxes, rng: np.random.Generator) -> tuple[Image, Boxes]:
    """The chain in the order of ssd_keras."""
    image, boxes = plain_crop(*plain_expand(plain_colors(image.copy(), rng), boxes, rng), rng)
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        image, boxes = image[:, ::-1].copy(), (width, 0, width, 0) - boxes[:, [2, 1, 0, 3]] * (1, -1, 1, -1)
    name = list(INTERPOLATIONS)[int(rng.integers(len(INTERPOLATIONS)))]
    small = cv2.resize(image, NETWORK[::-1], interpolation=INTERPOLATIONS[name])
    return small.astype(np.uint8), boxes * np.tile(np.array(NETWORK[::-1]) / (width, height), 2)


# The package


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
        size = WIDTH // reduction, HEIGHT // reduction
        return cv2.resize(self._image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def dataset(path: Path, boxes: Boxes, images: ImageSource | None) -> ViewDataset:
    """A data set of one photo."""
    none = np.zeros(len(boxes), bool)
    annotation = ImageAnnotation(
        view="image",
        image=path,
        source=path,
        width=WIDTH,
        height=HEIGHT,
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


def measure(works: dict[str, Callable[[int], object]]) -> dict[str, NDArray[np.float64]]:
    """Processor time of each (ROUNDS,) in ms, in turn; three rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(ROUNDS + 3):
        for name, work in works.items():
            start = time.process_time()
            work(number)
            times[name].append(1000 * (time.process_time() - start))
    return {name: np.array(values[3:]) for name, values in times.items()}


def main() -> None:
    """Measures and prints."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with np.load(INPUTS) as stored:
        boxes = stored["augment_boxes"].astype(np.float64)
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), (0, 0), 5)
    image = cv2.normalize(noise, np.empty_like(noise), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.jpg"
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        in_memory, on_disk = dataset(path, boxes, InMemory(image)), dataset(path, boxes, None)
        times = measure(
            {
                "yardstick": lambda number: plain_augment(image, boxes, rng),
                "in memory": lambda number: in_memory[number, 0],
                "JPEG": lambda number: on_disk[number, 0],
            }
        )
    plain = times["yardstick"]
    for name, values in times.items():
        median, mean = np.median(values), values.mean()
        print(
            f"{name:10s} median {median:6.1f} ms, mean {mean:6.1f} ms; the yardstick takes "
            f"{np.median(plain) / median:4.1f} and {plain.mean() / mean:4.1f} times as long"
        )


if __name__ == "__main__":
    main()
