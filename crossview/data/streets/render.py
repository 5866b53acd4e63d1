"""One panorama: sky and ground first, then everything else from far to near, then what a camera adds."""

from collections.abc import Callable
from functools import lru_cache, partial

import cv2
import numpy as np
from numpy.typing import NDArray

from crossview.data.streets.canvas import Canvas, Picture
from crossview.data.streets.foliage import paint_leaves
from crossview.data.streets.furniture import paint_rod, paint_thing
from crossview.data.streets.ground import paint_ground
from crossview.data.streets.houses import House
from crossview.data.streets.projection import Array, Panorama
from crossview.data.streets.settings import StreetSettings
from crossview.data.streets.surfaces import paint_surface
from crossview.data.streets.trees import paint_tree
from crossview.data.streets.world import Street


def render_view(settings: StreetSettings, street: Street, number: int) -> Canvas:
    """Paints panorama ``number`` of a street; depends on the settings, the street and the number alone."""
    east, north, bearing = (float(v) for v in street.cameras[number])
    camera = Panorama(east, north, settings.camera_height_m, bearing, settings.width)
    image = np.empty((camera.height, camera.width, 3), dtype=np.uint8)
    _paint_sky(image, camera, street.dome)
    paint_ground(image, camera, street.ground, street.light)
    canvas = Canvas(camera, street.light, image, np.zeros(image.shape[:2], dtype=np.uint16))
    for _, paint in sorted(_painters(canvas, street), key=lambda entry: -entry[0]):
        paint()
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, street.number, 1000 + number]))
    canvas.image = _expose(rng, canvas.image, settings.seed)
    return canvas


def _paint_sky(image: Picture, camera: Panorama, dome: Picture) -> None:
    shift = round((camera.yaw - np.pi) * camera.pixels_per_radian)
    image[: camera.height // 2] = np.roll(dome, -shift, axis=1)


def _painters(canvas: Canvas, street: Street) -> list[tuple[float, Callable[[], None]]]:
    """Everything in the street with its distance in metres and how to paint it."""
    here = np.array((canvas.camera.east, canvas.camera.north))

    def away(place: Array) -> float:
        return float(np.hypot(*(place[:2] - here)))

    entries: list[tuple[float, Callable[[], None]]] = []
    entries += [(away(tree.foot), partial(paint_tree, canvas, tree)) for tree in street.trees]
    entries += [(away(house.middle), partial(_paint_house, canvas, house)) for house in street.houses]
    entries += [(away(thing.middle), partial(paint_thing, canvas, thing)) for thing in street.things]
    entries += [(away(rod.points.mean(axis=0)), partial(paint_rod, canvas, rod)) for rod in street.rods]
    entries += [(away(plant.centre), partial(paint_leaves, canvas, plant)) for plant in street.plants]
    return entries


def _paint_house(canvas: Canvas, house: House) -> None:
    """Paints the visible sides from far to near."""
    here = np.array((canvas.camera.east, canvas.camera.north, canvas.camera.up), dtype=np.float32)
    for surface in sorted(house.surfaces, key=lambda s: -float(np.linalg.norm(s.middle - here))):
        paint_surface(canvas, surface)


def _expose(rng: np.random.Generator, image: Picture, seed: int) -> Picture:
    """A lens that is a little soft, an exposure that differs from view to view, and the noise of the sensor."""
    soft = cv2.GaussianBlur(image, (3, 3), 0.55)
    gain = rng.uniform(0.92, 1.10) * rng.uniform(0.97, 1.03, 3)
    values = np.arange(256, dtype=np.float32)[:, None] / 255 * gain
    curve = np.clip(values, 0, 1.2)
    curve = 1.0 - np.exp(-1.9 * curve**1.12)
    table = np.clip(curve / (1.0 - np.exp(-1.9)) * 255, 0, 255).astype(np.uint8)
    exposed = cv2.LUT(soft, table[None])
    grain = _grain(seed)
    top, left = int(rng.integers(0, 256)), int(rng.integers(0, 256))
    height, width = image.shape[:2]
    rows, columns = -(-(height + 256) // 512), -(-(width + 256) // 512)
    noise = np.tile(grain, (rows, columns, 1))[top : top + height, left : left + width]
    return np.asarray(cv2.add(exposed, np.ascontiguousarray(noise), dtype=cv2.CV_8U), dtype=np.uint8)


@lru_cache(maxsize=2)
def _grain(seed: int) -> NDArray[np.int16]:
    """Sensor noise (512, 512, 3), grey more than coloured."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 9_999_991]))
    noise = rng.normal(0, 2.6, (512, 512, 1)) + rng.normal(0, 1.3, (512, 512, 3))
    return np.round(noise).astype(np.int16)
