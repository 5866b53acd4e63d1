import numpy as np
import pytest

from crossview.data.streets.curve import Curve


@pytest.mark.parametrize("curvature", [0.0, 1 / 200, -1 / 200])
@pytest.mark.parametrize("heading", [0.0, 2.5, 6.1])
def test_street_coordinates_invert(curvature, heading):
    curve = Curve(heading, curvature)
    s, t = np.meshgrid(np.linspace(-80, 170, 11), np.linspace(-35, 35, 7))
    world = curve.to_world(s, t).astype(np.float32)
    back_s, back_t = curve.to_street(world[..., 0], world[..., 1])
    np.testing.assert_allclose(back_s, s, atol=2e-3)
    np.testing.assert_allclose(back_t, t, atol=2e-3)


@pytest.mark.parametrize("curvature", [0.0, 1 / 200, -1 / 200])
def test_line_runs_along_its_bearing_and_t_is_to_the_right(curvature):
    curve = Curve(0.7, curvature)
    here, ahead, right = curve.to_world([50.0, 50.01, 50.0], [0.0, 0.0, 1.0])
    bearing = float(curve.bearing(50.0))
    np.testing.assert_allclose((ahead - here) / 0.01, (np.sin(bearing), np.cos(bearing)), atol=1e-4)
    np.testing.assert_allclose(right - here, (np.cos(bearing), -np.sin(bearing)), atol=1e-9)
