import numpy as np
import pytest
import torch
from pyproj import Geod, Transformer

from crossview.geometry.frames import EARTH_RADIUS_M, to_latlng, to_local

ORIGINS = [
    (34.156992, -118.165118),  # Pasadena
    (0.0, 0.0),  # equator, Greenwich
    (-36.85, 179.9999),  # 9 m west of the antimeridian
    (-16.5, -179.99),  # 1 km east of it
    (78.22, 15.65),  # Svalbard
    (89.0, 120.0),  # 111 km from the North Pole
    (-89.0, -60.0),  # and from the South Pole
]
DISTANCES = [1.0, 10.0, 100.0, 1000.0, 50_000.0]
BEARINGS = np.arange(0.0, 360.0, 22.5)
DEGREE = np.pi / 180 * EARTH_RADIUS_M  # metres in a degree of latitude: 111,194.93


def around(origin, distance):
    """Points at a distance all around an origin, by pyproj's geodesics: degrees (16, 2) and metres (16, 2)."""
    geod = Geod(a=EARTH_RADIUS_M, b=EARTH_RADIUS_M)
    count = len(BEARINGS)
    lng, lat, _ = geod.fwd([origin[1]] * count, [origin[0]] * count, BEARINGS, [distance] * count)
    angle = np.radians(BEARINGS)
    return np.stack((lat, lng), axis=-1), distance * np.stack((np.sin(angle), np.cos(angle)), axis=-1)


def longitude_error(found, expected):
    return (found[..., 1] - expected[..., 1] + 180.0) % 360.0 - 180.0


@pytest.mark.parametrize(
    ("latlng", "origin", "expected"),
    [
        ((35.0, -118.0), (34.0, -118.0), (0.0, DEGREE)),  # a degree north
        ((33.0, -118.0), (34.0, -118.0), (0.0, -DEGREE)),  # a degree south
        ((0.0, 1.0), (0.0, 0.0), (DEGREE, 0.0)),  # a degree east along the equator
        ((0.0, -1.0), (0.0, 0.0), (-DEGREE, 0.0)),  # a degree west
        ((0.0, -179.5), (0.0, 179.5), (DEGREE, 0.0)),  # a degree east across the antimeridian
        ((0.0, 359.0), (0.0, 0.0), (-DEGREE, 0.0)),  # longitudes from 0 to 360
        ((34.0, -118.0), (34.0, -118.0), (0.0, 0.0)),  # the origin itself
        ((89.5, 180.0), (89.5, 0.0), (0.0, DEGREE)),  # straight across the North Pole
        # a real pair: 0.000085 degrees west times cos(34.157), 0.000053 degrees south
        ((34.156939, -118.165203), (34.156992, -118.165118), (-7.8211, -5.8933)),
    ],
)
def test_to_local_known_values(latlng, origin, expected):
    np.testing.assert_allclose(to_local(latlng, origin), expected, atol=1e-4, rtol=1e-9)


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_to_local_agrees_with_geodesics(origin, distance):
    latlng, metres = around(origin, distance)
    np.testing.assert_allclose(to_local(latlng, origin), metres, atol=1e-6, rtol=0)


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_to_latlng_agrees_with_geodesics(origin, distance):
    latlng, metres = around(origin, distance)
    found = to_latlng(metres, origin)
    np.testing.assert_allclose((found[:, 0] - latlng[:, 0]) * DEGREE, 0, atol=1e-6)
    np.testing.assert_allclose(longitude_error(found, latlng) * DEGREE * np.cos(np.radians(latlng[:, 0])), 0, atol=1e-6)


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("distance", DISTANCES[1:])  # PROJ rounds shorter arcs to zero
def test_agrees_with_azimuthal_equidistant_projection(origin, distance):
    sphere = f"+proj=longlat +R={EARTH_RADIUS_M}"
    plane = f"+proj=aeqd +lat_0={origin[0]} +lon_0={origin[1]} +R={EARTH_RADIUS_M}"
    latlng, metres = around(origin, distance)
    forward = Transformer.from_crs(sphere, plane, always_xy=True)
    np.testing.assert_allclose(
        to_local(latlng, origin), np.stack(forward.transform(latlng[:, 1], latlng[:, 0]), axis=-1), atol=1e-6, rtol=0
    )
    lng, lat = forward.transform(metres[:, 0], metres[:, 1], direction="INVERSE")
    found, expected = to_latlng(metres, origin), np.stack((lat, lng), axis=-1)
    np.testing.assert_allclose(found[:, 0], expected[:, 0], atol=1e-6 / DEGREE, rtol=0)
    np.testing.assert_allclose(longitude_error(found, expected) * np.cos(np.radians(lat)), 0, atol=1e-6 / DEGREE)


@pytest.mark.parametrize("origin", [*ORIGINS, (89.9999, 10.0), (-90.0, 0.0)])
def test_there_and_back(origin):
    metres = np.random.default_rng(0).uniform(-20_000, 20_000, (4, 50, 2))
    latlng = to_latlng(metres, origin)
    np.testing.assert_allclose(to_local(latlng, origin), metres, atol=1e-6, rtol=0)
    assert ((latlng[..., 1] >= -180) & (latlng[..., 1] < 180)).all()


def test_batched_equals_single():
    latlng, metres = around(ORIGINS[0], 30.0)
    grid = latlng.reshape(2, 8, 2)
    for index in np.ndindex(2, 8):
        np.testing.assert_array_equal(to_local(grid, ORIGINS[0])[index], to_local(grid[index], ORIGINS[0]))
    assert to_latlng(metres[:0], ORIGINS[0]).shape == (0, 2)


def test_inputs_stay_as_they_were():
    latlng, metres = around(ORIGINS[0], 30.0)
    latlng_before, metres_before = latlng.copy(), metres.copy()
    to_local(latlng, ORIGINS[0])
    to_latlng(metres, ORIGINS[0])
    np.testing.assert_array_equal(latlng, latlng_before)
    np.testing.assert_array_equal(metres, metres_before)


@pytest.mark.parametrize("convert", [to_local, to_latlng])
@pytest.mark.parametrize(
    "coordinates",
    [
        np.array([34.0, -118.0], dtype=np.float32),
        np.array([34.0, -118.0], dtype=np.float16),
        [np.float32(34.0), np.float32(-118.0)],
        torch.tensor([34.0, -118.0]),
    ],
    ids=["float32", "float16", "list of float32", "torch float32"],
)
def test_single_precision_is_refused(convert, coordinates):
    fine = [34.0, -118.0]
    with pytest.raises(ValueError, match=r"float(16|32).*float64"):
        convert(coordinates, fine)
    with pytest.raises(ValueError, match=r"float(16|32).*float64"):
        convert(fine, coordinates)


@pytest.mark.parametrize(
    "coordinates", [[34, -118], (34.0, -118.0), np.array([34, -118]), torch.tensor([34.0, -118.0], dtype=torch.float64)]
)
def test_double_precision_and_integers_are_accepted(coordinates):
    found = to_local(coordinates, [34.0, -117.0])
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, to_local([34.0, -118.0], [34.0, -117.0]))


def test_every_point_may_have_an_origin_of_its_own():
    points = np.array([[34.15, -118.16], [34.1501, -118.1602], [-33.9, 151.2]])
    origins = np.array([[34.1502, -118.1601], [34.1502, -118.1601], [-33.9001, 151.2003]])
    together = to_local(points, origins)
    np.testing.assert_array_equal(together, [to_local(*each) for each in zip(points, origins, strict=True)])
    np.testing.assert_allclose(to_latlng(together, origins), points, atol=1e-12)
