"""The chain for a pair: images, boxes and cameras stay in agreement, and draws are shared as configured."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from crossview.data.augment import Augmentation, Crop, Draws, Expand, Interpolation, Mirror, Photometric, Roll
from tests.data.augment.scenes import (
    BLACK,
    POINTS,
    POSES,
    SIZES,
    SPOT,
    TRANSFORMS,
    centroid,
    loader,
    make_view,
    pixels_of,
    spot_image,
)

SYNCS = ["geometric", "all", "none"]
FULL = Augmentation(
    roll=Roll(), expand=Expand(), crop=Crop(), mirror=Mirror(), photometric=Photometric(), interpolation=Interpolation()
)
CASES = [*((name,) for name in TRANSFORMS), tuple(TRANSFORMS), ()]


def augmentation(names, sync, interpolation="linear"):
    chosen: dict[str, Any] = {name: TRANSFORMS[name] for name in names}
    return Augmentation(**chosen, sync=sync, fill=BLACK, interpolation=Interpolation((interpolation,)))


@pytest.mark.parametrize("names", CASES, ids="+".join)
@settings(max_examples=30)
@given(
    size=SIZES,
    poses=st.tuples(POSES, POSES),
    point=POINTS,
    sync=st.sampled_from(SYNCS),
    interpolation=st.sampled_from(["nearest", "linear", "cubic", "area", "lanczos"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_augmented_camera_projects_a_world_point_to_where_the_augmented_image_shows_it(
    names, size, poses, point, sync, interpolation, seed
):
    views = tuple(make_view(size, pose, [point]) for pose in poses)
    for view in views:  # Away from poles, where the mark is cut by the image itself.
        assume(abs((view.boxes[0, 1] + view.boxes[0, 3]) / 2 - size[1] / 2) < size[1] / 2 - 8)
    height, width = 60, 120
    finished = augmentation(names, sync, interpolation)(views, height, width, Draws(seed, 3, 1))
    for before, after in zip(views, finished, strict=True):
        source = pixels_of(before.camera, before.locations, [point[2]])[0]
        # The world is mirrored with the images, so a location is where the mirrored point is.
        east_north = before.locations * ((-1, 1) if after.plan.raster.mirrored else (1, 1))
        expected = pixels_of(after.view.camera, east_north, [point[2]])[0]
        room = 4 * SPOT * np.array(after.plan.scale) + 1
        if not shows_whole(after, expected, room):
            continue
        image = np.empty((height, width, 3), dtype=np.uint8)
        after.render(loader(spot_image(size, source)), image)
        np.testing.assert_allclose(centroid(image), expected, atol=0.75 if interpolation == "nearest" else 0.35)


def shows_whole(after, xy, room):
    """Whether the mark around ``xy`` lies wholly within the panorama's part of the image."""
    x1, y1, x2, y2 = after.plan.target
    if after.plan.raster.mirrored:
        x1, x2 = after.plan.width - x2, after.plan.width - x1
    return bool(((xy - room > (x1, y1)) & (xy + room < (x2, y2))).all())


@pytest.mark.parametrize("names", CASES, ids="+".join)
@settings(max_examples=40)
@given(
    size=SIZES,
    poses=st.tuples(POSES, POSES),
    points=st.lists(POINTS, max_size=6),
    sync=st.sampled_from(SYNCS),
    seed=st.integers(0, 2**32 - 1),
)
@example(size=(192, 96), poses=((-16.0, 0.0, 0.0),) * 2, points=[(0.0, 0.0, 0.0)], sync="geometric", seed=564891)
def test_boxes_stay_around_the_point_they_belong_to(names, size, poses, points, sync, seed):
    half = (6.0, 5.0)
    views = tuple(make_view(size, pose, points, half) for pose in poses)
    up = np.array([point[2] for point in points])
    for before, after in zip(views, augmentation(names, sync)(views, 60, 120, Draws(seed, 0, 0)), strict=True):
        view = after.view
        assert np.isfinite(view.boxes).all()
        assert (view.boxes[:, 2:] > view.boxes[:, :2]).all(), "an empty or inverted box"
        assert (np.diff(view.rows) > 0).all(), "rows keep their order"
        assert len(view.boxes) == len(view.rows) == len(view.locations)
        turned = view.locations * ((-1, 1) if after.plan.raster.mirrored else (1, 1))
        np.testing.assert_array_equal(turned, before.locations[view.rows])
        if after.plan.raster.is_whole:
            assert len(view.rows) == len(points), "nothing gets lost in a whole panorama"
            assert (view.boxes[:, 0] >= 0).all()
            assert (view.boxes[:, 0] < 120).all()
        else:
            assert (view.boxes >= 0).all()
            assert (view.boxes <= (120, 60, 120, 60)).all()
        full = (view.boxes[:, 2:] - view.boxes[:, :2]) >= 2 * np.array(half) * after.plan.scale - 1e-9
        center = (view.boxes[:, :2] + view.boxes[:, 2:]) / 2
        expected = pixels_of(view.camera, view.locations, up[view.rows]) if len(view.rows) else center
        error = center - expected
        turn = 1 / view.camera.scale[0].item()
        across = np.abs(error[:, 0]) > turn / 2  # beyond the seam, also where an expansion has cut a box there
        expected[:, 0] += np.round(error[:, 0] / turn) * turn
        error = center - expected
        np.testing.assert_allclose(error[full], 0, atol=1e-6)  # a box that was not clipped: exactly
        if not after.plan.raster.is_whole:
            reach = np.array(half) * after.plan.scale + 1e-6
            assert (view.boxes[:, :2] >= expected - reach).all(), "a clipped box is a part of the whole one"
            assert (view.boxes[:, 2:] <= expected + reach).all()
        if not {"expand", "crop"} <= set(names):
            # An expansion may cut a box at the seam, whose new centre then decides whether a crop keeps it.
            assert ((view.boxes[:, :2] <= expected + 1e-6) & (view.boxes[:, 2:] >= expected - 1e-6))[~across].all()


@pytest.mark.parametrize("sync", SYNCS)
def test_a_mirror_flips_both_views_and_the_world_or_nothing(sync):
    views = tuple(make_view((192, 96), pose, [(5, 5, 0)]) for pose in [(0, 0, 1), (7, -3, 2)])
    chain = Augmentation(roll=Roll(), crop=Crop(), mirror=Mirror(0.5), sync=sync)
    seen = set()
    for index in range(40):
        finished = chain(views, 30, 60, Draws(0, 0, index))
        flipped = {view.plan.raster.mirrored for view in finished}
        assert len(flipped) == 1
        sign = -1 if flipped == {True} else 1
        seen.add(sign)
        for before, after in zip(views, finished, strict=True):
            assert after.view.camera.position.tolist() == [sign * before.camera.position[0], before.camera.position[1]]
            assert (after.view.locations == before.locations[after.view.rows] * (sign, 1)).all()
    assert seen == {-1, 1}


# sync: are the geometry and the colours of both views the same?
@pytest.mark.parametrize(
    ("sync", "same_geometry", "same_colours"),
    [("geometric", True, False), ("all", True, True), ("none", False, False)],
)
def test_both_views_share_the_draws_that_sync_names(sync, same_geometry, same_colours):
    views = tuple(make_view((192, 96), pose, []) for pose in [(0, 0, 1), (7, -3, 2)])
    chain = Augmentation(
        roll=Roll(),
        expand=Expand(1.0),
        crop=Crop(1.0, (0.0,)),
        photometric=Photometric(1.0),
        interpolation=Interpolation(),
        sync=sync,
    )
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    geometry, names, colours = [], [], []
    for index in range(12):
        first, second = chain(views, 30, 60, Draws(0, 0, index))
        geometry.append(first.plan == second.plan)
        names.append(first.interpolation == second.interpolation)
        colours.append(recolored(first, image) == recolored(second, image))
    assert all(geometry) if same_geometry else not any(geometry)
    assert all(names) == same_geometry  # one of five: equal now and then also without sharing
    assert all(colours) if same_colours else not any(colours)


@pytest.mark.parametrize("sync", SYNCS)
def test_a_single_view_is_augmented_as_the_first_of_a_pair(sync):
    view = make_view((192, 96), (0, 0, 1), [])  # without objects, so that the second view has no say in the crop
    chain = Augmentation(
        roll=Roll(), expand=Expand(), crop=Crop(), mirror=Mirror(), interpolation=Interpolation(), sync=sync
    )
    for index in range(10):
        (alone,) = chain((view,), 30, 60, Draws(0, 0, index))
        first, _ = chain((view, view), 30, 60, Draws(0, 0, index))
        assert (alone.plan, alone.interpolation) == (first.plan, first.interpolation)


def test_one_draw_fits_views_of_different_sizes():
    views = make_view((192, 96), (0, 0, 1), []), make_view((384, 192), (7, 0, 2), [])
    chain = Augmentation(roll=Roll(), crop=Crop(1.0, (0.0,)))
    first, second = (view.plan.raster for view in chain(views, 30, 60, Draws(0, 0, 4)))
    for name in ("roll", "left", "top", "width", "height"):
        assert getattr(second, name) == pytest.approx(2 * getattr(first, name), abs=8)


def test_the_fill_colour_is_of_whole_levels():
    fill: tuple[float, float, float] = (123.675, 116.28, 103.53)  # ImageNet's mean
    assert Augmentation(fill=fill).fill == (124, 116, 104)  # type: ignore[arg-type]  # a config may have it


def test_the_fill_colour_surrounds_the_panorama_and_is_not_distorted():
    view = make_view((192, 96), (0, 0, 1), [])
    chain = Augmentation(expand=Expand(1.0, 3.0), photometric=Photometric(1.0), fill=(10, 200, 30))
    image = np.empty((60, 120, 3), dtype=np.uint8)
    after = chain((view, view), 60, 120, Draws(0, 0, 2))[0]
    after.render(loader(np.full((96, 192, 3), 90, dtype=np.uint8)), image)
    x1, y1, x2, y2 = after.plan.target
    inside = np.zeros((60, 120), dtype=bool)
    inside[y1:y2, x1:x2] = True
    assert 0 < inside.sum() < inside.size
    assert (image[~inside] == (10, 200, 30)).all()
    assert not (image[inside] == 90).all(), "the panorama itself is distorted"


def recolored(view, picture):
    """The picture in the colours of a view."""
    assert view.recolor is not None
    return view.recolor(picture).tolist()


def random_states():
    """The random states of the process."""
    numpy_state: Any = np.random.get_state()  # noqa: NPY002 - the global state is the point
    return numpy_state[1].tolist(), random.getstate(), torch.get_rng_state().tolist()


def outcome(draws):
    """What decides a pair: both plans, interpolations, and a recoloured picture."""
    views = tuple(make_view((192, 96), pose, [(5, 5, 0)]) for pose in [(0, 0, 1), (7, -3, 2)])
    picture = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return [(view.plan, view.interpolation, recolored(view, picture)) for view in FULL(views, 30, 60, draws)]


def test_draws_depend_on_seed_epoch_and_index_and_on_nothing_else():
    same = outcome(Draws(1, 2, 3))
    np.random.seed(5)  # noqa: NPY002 - the global state is the point
    random.seed(6)
    torch.manual_seed(7)
    states = random_states()
    assert outcome(Draws(1, 2, 3)) == same
    assert states == random_states()
    for other in (Draws(0, 2, 3), Draws(1, 0, 3), Draws(1, 2, 0), Draws(2, 1, 3), Draws(1, 3, 2)):
        assert outcome(other) != same


def test_without_transforms_it_is_a_plain_resize():
    views = tuple(make_view((192, 96), (0, 0, yaw), [(5, 5, 0)]) for yaw in (1, 2))
    for before, after in zip(views, Augmentation()(views, 48, 64, Draws(0, 0, 0)), strict=True):
        assert (after.plan.scale, after.plan.shift) == ((1 / 3, 1 / 2), (0, 0))
        np.testing.assert_allclose(after.view.boxes, before.boxes * (1 / 3, 1 / 2, 1 / 3, 1 / 2))
        assert after.recolor is None


# setting that means nothing, part of the message
@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Augmentation, {"sync": "both"}, "sync is 'both'; expected one of geometric, all, none"),
        (Augmentation, {"fill": (1, 2)}, "fill is"),
        (Augmentation, {"fill": (0, 0, 256)}, "fill is"),
        (Roll, {"probability": 1.5}, "roll: probability is 1.5"),
        (Expand, {"max_ratio": 0.9}, "expand: max_ratio is 0.9"),
        (Crop, {"min_ious": ()}, "crop: min_ious is"),
        (Crop, {"min_ious": (2.0,)}, "crop: min_ious is"),
        (Crop, {"scale": (0.9, 0.3)}, "crop: scale is"),
        (Crop, {"aspect": (1.5, 2.0)}, "crop: aspect is"),
        (Crop, {"trials": 0}, "crop: trials is 0"),
        (Interpolation, {"names": ("bilinear",)}, "expected one or more of nearest, linear"),
        (Photometric, {"hue": 200}, "photometric: hue is 200"),
        (Photometric, {"contrast": (1.5, 0.5)}, "photometric: contrast is"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(kind, values, message):
    with pytest.raises(ValueError, match=message):
        kind(**values)
