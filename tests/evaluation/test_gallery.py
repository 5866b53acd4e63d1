"""Pictures of the report."""

import numpy as np
import pytest
from PIL import Image

from crossview.evaluation.gallery import NO_IMAGE, _image
from tests.evaluation.scenes import cached


@pytest.fixture
def view(pair_root):
    return cached(pair_root)[0][0].views[0]


@pytest.mark.parametrize("orientation", [1, 3])
def test_a_picture_is_not_turned_as_the_network_does_not_turn_it(view, tmp_path, orientation):
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :32, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "Bäume.jpg"
    Image.fromarray(pixels).save(path, exif=exif, quality=95)
    shown = _image(view._replace(image=str(path), image_size=(64, 32)))
    assert shown.shape == (32, 64, 3)
    assert shown[:, :24, 0].min() > 200
    assert shown[:, 40:].max() < 50


@pytest.mark.parametrize("name", ["", "gone.jpg", "text.jpg"])
def test_a_picture_that_cannot_be_read_is_grey(view, tmp_path, name):
    (tmp_path / "text.jpg").write_text("no picture")
    shown = _image(view._replace(image=str(tmp_path / name) if name else "", image_size=(64, 32)))
    assert shown.shape == (32, 64, 3)
    assert (shown == NO_IMAGE).all()
