import numpy as np

from crossview.data.streets.canvas import Canvas
from crossview.data.streets.light import draw_light
from crossview.data.streets.projection import Panorama


def test_worked_number_of_the_module():
    camera = Panorama(0.0, 0.0, 3.0, 0.0, 2048)
    x, y, flat = camera.project(np.array((0.0, 15.0, 0.0), dtype=np.float32))
    np.testing.assert_allclose((x, y, flat), (1024.0, 576.3, 15.0), atol=0.05)


def test_rays_of_pixels_invert_the_projection():
    camera = Panorama(4.0, -7.0, 3.0, 1.3, 1024)
    bearing = camera.column_bearings(-3, 1030)[::100]
    slope = camera.row_slopes(200, 300)[::10]
    points = np.stack(
        [(4.0 + 9 * np.sin(b), -7.0 + 9 * np.cos(b), 3.0 + 9 * s) for b in bearing for s in slope]
    ).astype(np.float32)
    x, y, _ = camera.project(points)
    columns = (np.arange(-3, 1030)[::100] + 0.5) % 1024
    np.testing.assert_allclose(
        x.reshape(len(bearing), -1), np.broadcast_to(columns[:, None], (len(bearing), 10)), atol=0.02
    )
    np.testing.assert_allclose(y.reshape(len(bearing), -1)[0], np.arange(200, 300)[::10] + 0.5, atol=0.02)


def test_paste_goes_around_the_seam_and_drops_rows_outside():
    camera = Panorama(0.0, 0.0, 3.0, 0.0, 128)
    canvas = Canvas(
        camera,
        draw_light(np.random.default_rng(0), 0),
        np.zeros((64, 128, 3), dtype=np.uint8),
        np.zeros((64, 128), dtype=np.uint16),
    )
    canvas.paste(-2, -1, np.full((3, 5, 3), 9, dtype=np.uint8), np.ones((3, 5), dtype=bool), 7)
    expected = np.zeros((64, 128), dtype=bool)
    expected[:2, [126, 127, 0, 1, 2]] = True
    np.testing.assert_array_equal(canvas.owner == 7, expected)
    np.testing.assert_array_equal(canvas.image[..., 0] == 9, expected)
    assert canvas.painted == {7: 10}
    assert canvas.windows == {7: (-2, 0, 3, 2)}
