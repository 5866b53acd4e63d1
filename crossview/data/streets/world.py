"""What stands where: one street with its light, its season, everything in it and the cameras along it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossview.data.streets.canvas import Picture
from crossview.data.streets.curve import Curve
from crossview.data.streets.foliage import Leaves
from crossview.data.streets.furniture import Rod, Thing, build_bin, build_car, build_fence, build_lamp, build_poles
from crossview.data.streets.ground import HALF_WIDTH_M, Ground, GroundPainter, Profile
from crossview.data.streets.houses import House, build_house, plaster_noise
from crossview.data.streets.light import SEASONS, Light, draw_light
from crossview.data.streets.plants import build_bush, build_hedge, build_thicket
from crossview.data.streets.roads import lay_road
from crossview.data.streets.settings import StreetSettings
from crossview.data.streets.sky import paint_dome
from crossview.data.streets.species import SPECIES
from crossview.data.streets.trees import MAX_STREET_RADIUS_M, Tree, grow_tree

Array = NDArray[np.floating[Any]]
END_M = 52.0  # from the outermost cameras to the houses that close the street
TREES_M = 36.0  # from the outermost cameras to the outermost trees
LAWNS = ((66, 118, 104), (72, 126, 96), (84, 122, 124), (100, 140, 150), (120, 150, 164), (62, 108, 92))


@dataclass(frozen=True, slots=True)
class Street:
    """One street, ready to be painted from any of its cameras.

    Attributes:
        number: Its number, from 0.
        light: Its light.
        season: summer, autumn or spring.
        cameras: (N, 3) east, north in metres and bearing of the picture's centre in radians, along the street.
        dome: Upper half of a panorama whose left border looks north.
        ground: Map of the ground.
        trees: Trees, numbered from 1.
        houses: Houses.
        things: Cars and bins.
        rods: Poles, arms and wires.
        plants: Hedges and bushes.
    """

    number: int
    light: Light
    season: str
    cameras: NDArray[np.float64]
    dome: Picture
    ground: Ground
    trees: list[Tree]
    houses: list[House]
    things: list[Thing]
    rods: list[Rod]
    plants: list[Leaves]


def build_street(settings: StreetSettings, number: int) -> Street:
    """Street ``number`` of the data set; depends on the settings and the number alone."""
    builder = _Builder(settings, number)
    for side in (-1, 1):
        builder.add_houses(side)
        builder.add_street_trees(side)
        builder.add_cars(side)
    builder.close_ends()
    builder.add_lamps_and_poles()
    return builder.finish()


class _Builder:
    """Draws a street step by step; sky, ground, trees and all the rest have generators of their own."""

    def __init__(self, settings: StreetSettings, number: int) -> None:
        sequence = np.random.SeedSequence([settings.seed, number])
        self._plan, self._looks, self._sky, ground, self._growth = (np.random.default_rng(c) for c in sequence.spawn(5))
        plan = self._plan
        self._settings, self._number = settings, number
        steps = plan.uniform(settings.step_min_m, settings.step_max_m, settings.panoramas_per_street - 1)
        self._stations = np.concatenate(([0.0], np.cumsum(steps)))
        self._length = float(self._stations[-1])
        self._curve = Curve(
            float(plan.uniform(0, 2 * np.pi)), float(plan.choice([-1.0, 0.0, 1.0])) / plan.uniform(170, 420)
        )
        self._light = draw_light(self._sky, number)
        self._season = SEASONS[number % len(SEASONS)]
        road = plan.uniform(3.9, 5.2)
        strip = road + 0.18 + plan.uniform(1.4, 2.4)
        self._profile = Profile(road, road + 0.18, strip, strip + plan.uniform(1.3, 1.9))
        span = (-END_M - 24, self._length + END_M + 24)
        self._ground = GroundPainter(ground, self._curve, span, self._profile, self._season)
        self._noise = plaster_noise(self._looks)
        crossings = lay_road(plan, self._ground, self._length, END_M, road)
        self._driveways: dict[int, list[float]] = {-1: [*crossings], 1: [*crossings]}
        # A street is planted with a few species, most of it with one or two.
        shares = (
            np.array([species.share * species.in_streets for species in SPECIES])
            * plan.uniform(0.05, 1.0, len(SPECIES)) ** 2
        )
        self._species_shares = shares / shares.sum()
        self._trees: list[Tree] = []
        self._houses: list[House] = []
        self._things: list[Thing] = []
        self._rods: list[Rod] = []
        self._plants: list[Leaves] = []

    def add_houses(self, side: int) -> None:
        """Houses along one side, with their driveways, paths, hedges, bushes and garden trees."""
        plan = self._plan
        s = -END_M + plan.uniform(0, 8)
        while s < self._length + END_M - 6:
            width, depth, yard = plan.uniform(8.5, 15), plan.uniform(8, 11), plan.uniform(3.5, 8.5)
            front = self._profile.walk + yard
            if front + depth > HALF_WIDTH_M - 1:
                depth = HALF_WIDTH_M - 1 - front
            self._houses.append(
                build_house(self._looks, self._curve.plot(s, s + width, front, depth, side), self._light, self._noise)
            )
            lot = plan.uniform(3.5, 8.0)
            self._lay_lot(s - 1.0, s + width + lot - 1.0, front, side)
            self._driveway(s + width + min(lot, 4.0) / 2, front, side)
            self._ground.rectangle(
                (s + width * 0.5, s + width * 0.5 + 1.1), (side * self._profile.walk, side * front), (160, 166, 170)
            )
            self._garden(s, width, front, side)
            s += width + lot

    def _lay_lot(self, start: float, end: float, front: float, side: int) -> None:
        """A lawn of its own colour, a fence to the next lot and a thicket behind the house."""
        plan = self._plan
        lawn = np.array(LAWNS[plan.integers(len(LAWNS))]) * plan.uniform(0.85, 1.1)
        self._ground.rectangle((start, end), (side * self._profile.walk, side * HALF_WIDTH_M), lawn, 0.15)
        if plan.random() < 0.7:
            back = plan.uniform(front + 2.0, front + 6.0)
            ends = self._curve.to_world((end - 4.0, end + 2.0)[::-side], (side * back, side * back))
            self._things.append(build_fence(self._looks, ends[0], ends[1], self._light))
        if plan.random() < 0.75:
            for s in np.arange(start, end, 5.0):
                along = np.linspace(s, s + 5.0, 3)
                places = self._curve.to_world(along, side * plan.uniform(28.0, 33.0, 3))
                self._plants.append(build_thicket(self._looks, places, self._light))

    def _driveway(self, s: float, front: float, side: int) -> None:
        shade = np.array((150, 156, 160)) * self._plan.uniform(0.7, 1.05)
        self._ground.rectangle((s - 1.5, s + 1.5), (side * (self._profile.road - 0.1), side * (front + 4)), shade)
        self._driveways[side].append(s)

    def _garden(self, s: float, width: float, front: float, side: int) -> None:
        """What grows between a house and the sidewalk."""
        plan, walk = self._plan, self._profile.walk
        if plan.random() < 0.30:
            height = plan.uniform(0.7, 1.6)
            for start in np.arange(s - 1, s + width - 1, 2.2):
                if abs(start + 1.1 - (s + width * 0.5 + 0.5)) > 1.6:
                    places = self._curve.to_world(np.linspace(start, start + 2.2, 4), np.full(4, side * (walk + 0.6)))
                    self._plants.append(build_hedge(self._looks, places, height, self._light))
        for _ in range(int(plan.integers(0, 5))):
            place = self._curve.to_world(s + plan.uniform(0, width), side * (front - plan.uniform(0.6, 1.4)))
            self._plants.append(build_bush(self._looks, place, self._light))
        if plan.random() < 0.45 and front - walk > 4.2:
            t = side * plan.uniform(walk + 1.8, front - 2.0)
            self._plant_tree(
                float(s + plan.uniform(0.1, 0.9) * width),
                float(t),
                float(max(1.2, front - abs(t) + 0.4)),
                uniform=False,
            )

    def add_street_trees(self, side: int) -> None:
        """Trees in the strip between kerb and sidewalk, with gaps, never in a driveway."""
        plan = self._plan
        t = side * (self._profile.kerb + self._profile.strip) / 2
        spacing = plan.uniform(7.5, 13.0)
        s = -TREES_M + plan.uniform(0, spacing)
        while s < self._length + TREES_M:
            near = [abs(s - other) for other in self._driveways[side]]
            if plan.random() < 0.85 and min(near, default=9.0) > 2.1:
                self._plant_tree(s, t + plan.normal(0, 0.12), MAX_STREET_RADIUS_M, uniform=True)
            s += spacing * plan.uniform(0.75, 1.3)

    def _plant_tree(self, s: float, t: float, max_radius: float, uniform: bool) -> None:
        """Plants a tree; ``uniform`` trees keep to the species of the street."""
        growth = self._growth
        shares = self._species_shares if uniform else None
        species = SPECIES[int(growth.choice(len(SPECIES), p=shares))]
        foot = self._curve.to_world(s, t)
        if any(np.hypot(*(tree.foot - foot)) < 2.5 for tree in self._trees):
            return
        tree = grow_tree(growth, len(self._trees) + 1, foot, species, self._season, self._light, max_radius)
        self._trees.append(tree)
        self._ground.spot(s, t, growth.uniform(0.45, 0.8), (70, 92, 112))
        if self._season != "summer" and growth.random() < 0.5:
            colours = np.array(species.leaves[self._season], dtype=np.float32)
            self._ground.litter(s, t, max(tree.leaves.extent[0], 0.8) * 1.3, colours, 900)

    def add_cars(self, side: int) -> None:
        """Parked cars at the kerb and in the driveways, and bins."""
        plan = self._plan
        density = plan.uniform(0.05, 0.5)
        for s in np.arange(-34.0, self._length + 34.0, 6.2):
            place = s + plan.uniform(-0.5, 0.5)
            if plan.random() < density and all(abs(place - other) > 3.6 for other in self._driveways[side]):
                self._park(place, side * (self._profile.road - 1.15), plan.random() < 0.9, side)
        for s in self._driveways[side]:
            if plan.random() < 0.35:
                middle = self._curve.to_world(s, side * (self._profile.walk + 3.4))
                turn = 0.0 if plan.random() < 0.5 else np.pi
                self._things.append(
                    build_car(self._looks, middle, float(self._curve.bearing(s)) + np.pi / 2 + turn, self._light)
                )
            if plan.random() < 0.2:
                place = self._curve.to_world(s + 1.9, side * (self._profile.kerb + 0.5))
                self._things.append(build_bin(self._looks, place, float(self._curve.bearing(s)), self._light))

    def _park(self, s: float, t: float, with_traffic: bool, side: int) -> None:
        bearing = float(self._curve.bearing(s)) + (0.0 if (side > 0) == with_traffic else np.pi)
        self._things.append(
            build_car(self._looks, self._curve.to_world(s, t), bearing + self._plan.normal(0, 0.02), self._light)
        )

    def close_ends(self) -> None:
        """A cross street at both ends with houses behind it, so that no view runs into the void."""
        asphalt = np.array((104, 103, 102))
        for end, sign in ((-END_M, -1), (self._length + END_M, 1)):
            self._ground.rectangle((end, end + sign * 9), (-HALF_WIDTH_M, HALF_WIDTH_M), asphalt)
            bearing = float(self._curve.bearing(end))
            outward = sign * np.array((np.sin(bearing), np.cos(bearing)))
            right = np.array((outward[1], -outward[0]))
            middle = self._curve.to_world(end, 0.0) + 14 * outward
            for shift in (-34.0, -17.0, 0.0, 17.0, 34.0):
                place = middle + (shift + self._plan.uniform(-2, 2)) * right
                half, depth = self._plan.uniform(5, 7), 8.5
                corners = np.stack(
                    (
                        place - half * right,
                        place + half * right,
                        place + half * right + depth * outward,
                        place - half * right + depth * outward,
                    )
                )
                self._houses.append(build_house(self._looks, corners.astype(np.float32), self._light, self._noise))

    def add_lamps_and_poles(self) -> None:
        """Lamp posts on one side, utility poles with wires on the other in every other street."""
        plan, profile = self._plan, self._profile
        side = 1 if plan.random() < 0.5 else -1
        for s in np.arange(-30 + plan.uniform(0, 20), self._length + 40, plan.uniform(24, 34)):
            place = self._curve.to_world(s, side * (profile.kerb + 0.45))
            towards = float(self._curve.bearing(s)) - side * np.pi / 2
            self._rods.extend(build_lamp(place, towards, self._light))
        if plan.random() < 0.5:
            along = np.arange(-45 + plan.uniform(0, 10), self._length + 45, plan.uniform(26, 34))
            self._rods.extend(
                build_poles(self._curve.to_world(along, np.full_like(along, -side * (profile.kerb + 0.4))), self._light)
            )

    def finish(self) -> Street:
        """Casts all shadows and paints what every view shares."""
        for tree in self._trees:
            self._ground.cast_points(tree.leaves.points[:6000], self._light)
            trunk = np.linspace(tree.base, tree.trunk_top, 40, dtype=np.float32)
            self._ground.cast_points(trunk, self._light)
        for plant in self._plants:
            self._ground.cast_points(plant.points[:2500], self._light)
        for thing in self._things:
            self._ground.cast_prism(thing.footprint, thing.height * 0.8, self._light)
        for house in self._houses:
            self._ground.cast_prism(house.corners, house.height * 0.85, self._light)
        return Street(
            self._number,
            self._light,
            self._season,
            self._cameras(),
            paint_dome(self._sky, self._settings.width, self._light),
            self._ground.finish(self._light),
            self._trees,
            self._houses,
            self._things,
            self._rods,
            self._plants,
        )

    def _cameras(self) -> NDArray[np.float64]:
        """A car that drives along one lane, in one of both directions, and looks ahead give or take some degrees."""
        plan = self._plan
        lane = plan.uniform(0.2, 1.4) * (1 if plan.random() < 0.5 else -1)
        places = self._curve.to_world(self._stations, lane + plan.normal(0, 0.15, len(self._stations)))
        ahead = self._curve.bearing(self._stations) + (0.0 if lane > 0 else np.pi)
        bearings = (ahead + np.radians(plan.normal(0, 3.0, len(ahead)))) % (2 * np.pi)
        return np.column_stack((places, bearings))
