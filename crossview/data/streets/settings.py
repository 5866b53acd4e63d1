"""What a rendered data set of streets is made of: the settings, their checks, and their digest."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

# Part of every cache key: raise it whenever the same settings give other pictures or boxes.
RENDERER_VERSION = 2


@dataclass(frozen=True, slots=True)
class StreetSettings:
    """Settings of the renderer; every one of them changes the data, none the speed.

    Attributes:
        streets: Number of streets; at least 3, one for each of training, validation and test.
        seed: Source of all randomness.
        width: Width of a panorama in pixels; its height is half of that.
        panoramas_per_street: Panoramas along one street; consecutive ones make the pairs.
        step_min_m: Smallest distance between consecutive panoramas, metres.
        step_max_m: Largest distance between consecutive panoramas, metres.
        camera_height_m: Height of the camera above the flat ground, metres.
        gps_sigma_m: Noise of the written position, metres in east and in north; pictures and locations stay true.
        yaw_sigma_deg: Noise of the written heading, degrees.
        val_fraction: Share of the streets that goes to validation.
        test_fraction: Share of the streets that goes to test.
        class_name: Name of the annotated class.
        max_distance_m: Trees farther away are not annotated.
        min_height_px: Trees lower than this many pixels on a panorama of 600 columns are not annotated.
        small_height_px: Trees lower than this many pixels on a panorama of 600 columns are marked difficult.
        min_visible: Trees of which a smaller share is visible are not annotated.
        difficult_visible: Trees of which a smaller share is visible are marked difficult.
        jpeg_quality: Quality of the written pictures, 1 to 100.
        latitude: Latitude of the middle of the made-up town, degrees.
        longitude: Longitude of the middle of the made-up town, degrees.
    """

    streets: int = 20
    seed: int = 0
    width: int = 2048
    panoramas_per_street: int = 9
    step_min_m: float = 7.0
    step_max_m: float = 13.0
    camera_height_m: float = 3.0
    gps_sigma_m: float = 0.0
    yaw_sigma_deg: float = 0.0
    val_fraction: float = 0.1
    test_fraction: float = 0.2
    class_name: str = "tree"
    max_distance_m: float = 60.0
    min_height_px: float = 12.0
    small_height_px: float = 20.0
    min_visible: float = 0.1
    difficult_visible: float = 0.4
    jpeg_quality: int = 88
    latitude: float = 34.15
    longitude: float = -118.16

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            ValueError: a value cannot be rendered; the message names the key, the value and the values that work.
        """
        for key, low, high in _RANGES:
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ValueError(
                    f"{key}={value!r} is not a number from {low:g} to {high:g}; set {key} to one in that range"
                )
        for field in fields(self):
            if field.type is int and not isinstance(getattr(self, field.name), int):
                raise ValueError(
                    f"{field.name}={getattr(self, field.name)!r} is not a whole number; give {field.name} one"
                )
        if self.width % 4:
            raise ValueError(f"width={self.width} is not a multiple of 4; choose for example {self.width // 4 * 4}")
        if self.step_min_m > self.step_max_m:
            raise ValueError(f"step_min_m={self.step_min_m} is larger than step_max_m={self.step_max_m}; swap the two")
        if self.min_visible > self.difficult_visible:
            raise ValueError(
                f"min_visible={self.min_visible} is larger than difficult_visible={self.difficult_visible}: "
                "no tree could be marked difficult; make it the smaller of the two"
            )
        if not isinstance(self.class_name, str) or not self.class_name.strip():
            raise ValueError(f"class_name={self.class_name!r} is not a name; give the class a name such as 'tree'")
        if min(self.split_sizes()) < 1:
            raise ValueError(
                f"streets={self.streets}, val_fraction={self.val_fraction} and test_fraction={self.test_fraction} "
                f"leave {self.split_sizes()} streets for (train, val, test), and each needs one; "
                "use more streets or smaller fractions"
            )

    @property
    def height(self) -> int:
        """Height of a panorama in pixels."""
        return self.width // 2

    def split_sizes(self) -> tuple[int, int, int]:
        """Number of streets for training, validation and test."""
        val = max(1, round(self.streets * self.val_fraction))
        test = max(1, round(self.streets * self.test_fraction))
        return self.streets - val - test, val, test

    def digest(self) -> str:
        """A short key of everything that decides the data: all settings and the renderer's version."""
        content = json.dumps({"renderer": RENDERER_VERSION, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "StreetSettings":
        """Settings from a mapping, with whole numbers taken as floats where a float is meant.

        Raises:
            ValueError: an unknown key or a bad value.
        """
        known = {field.name: field.type for field in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"unknown settings {unknown} of the street renderer; known are {sorted(known)}")
        plain: dict[str, Any] = {
            key: float(value)
            if known[key] is float and isinstance(value, int) and not isinstance(value, bool)
            else value
            for key, value in values.items()
        }
        return cls(**plain)


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("streets", 3, 10_000),
    ("seed", 0, 2**63 - 1),
    ("width", 128, 8192),
    ("panoramas_per_street", 5, 30),
    ("step_min_m", 2.0, 40.0),
    ("step_max_m", 2.0, 40.0),
    ("camera_height_m", 1.0, 6.0),
    ("gps_sigma_m", 0.0, 50.0),
    ("yaw_sigma_deg", 0.0, 180.0),
    ("val_fraction", 0.0, 0.9),
    ("test_fraction", 0.0, 0.9),
    ("max_distance_m", 5.0, 90.0),
    ("min_height_px", 0.0, 300.0),
    ("small_height_px", 0.0, 300.0),
    ("min_visible", 0.0, 1.0),
    ("difficult_visible", 0.0, 1.0),
    ("jpeg_quality", 1, 100),
    ("latitude", -80.0, 80.0),
    ("longitude", -180.0, 180.0),
)
