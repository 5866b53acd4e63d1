"""A yardstick: SSD's augmentation of one image in the order of ssd_keras, with OpenCV.

Colours at full size, the whole canvas, crop, mirror, resize. Its draws are of the same kinds and odds as the package's,
not the same.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from crossview.data.augment.raster import INTERPOLATIONS, Image

Boxes = NDArray[np.float64]

FILL = (123, 117, 104)
MIN_IOUS = (None, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9)


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


def plain_augment(
    image: Image, boxes: Boxes, rng: np.random.Generator, network: tuple[int, int]
) -> tuple[Image, Boxes]:
    """The whole chain, to images of ``network`` (height, width)."""
    image, boxes = plain_crop(*plain_expand(plain_colors(image.copy(), rng), boxes, rng), rng)
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        image, boxes = image[:, ::-1].copy(), (width, 0, width, 0) - boxes[:, [2, 1, 0, 3]] * (1, -1, 1, -1)
    name = list(INTERPOLATIONS)[int(rng.integers(len(INTERPOLATIONS)))]
    small = cv2.resize(image, network[::-1], interpolation=INTERPOLATIONS[name])
    return small.astype(np.uint8), boxes * np.tile(np.array(network[::-1]) / (width, height), 2)
