import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import ConnectionPatch, Rectangle

from crossview.pictures import NO_IDENTITY, STYLES, Layer, MatchLine, ViewPicture, draw_views, identity_colors

HEIGHT, WIDTH = 100, 200
BOX = (20.0, 45.0, 50.0, 60.0)


def layer(*boxes, ids=None, known=True, values=None):
    ids = list(range(1, len(boxes) + 1)) if ids is None else ids
    return Layer(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(ids, np.int64),
        np.full(len(boxes), known),
        None if values is None else np.array(values, np.float32),
    )


def picture(**layers):
    content = {name: layers.get(name, layer()) for name in STYLES}
    return ViewPicture(np.full((HEIGHT, WIDTH, 3), 90, np.uint8), "view", float(WIDTH), **content)


def drawn(first, second=None):
    """The boxes of both views: (edges, colour, line width, line style), and the texts."""
    figure = draw_views((first, picture() if second is None else second), "title")
    figure.canvas.draw()
    views = []
    for axes in figure.axes:
        boxes = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        edges = [tuple(float(edge) for edge in box.get_bbox().extents) for box in boxes]
        looks = [(to_rgb(box.get_edgecolor()), box.get_linewidth(), box.get_linestyle()) for box in boxes]
        views.append((edges, looks, axes))
    return views


@pytest.mark.parametrize("kind", STYLES)
@pytest.mark.parametrize(
    ("box", "shown"),
    [
        (BOX, [BOX]),
        ((190, 40, 230, 60), [(-10, 40, 30, 60), (190, 40, 230, 60)]),  # over the right edge
        ((-15, 40, 10, 60), [(-15, 40, 10, 60), (185, 40, 210, 60)]),  # over the left edge
        ((210, 40, 230, 60), [(10, 40, 30, 60)]),  # beyond the edge: only where it is seen
        ((0, 40, 200, 60), [(0, 40, 200, 60)]),  # all around
        ((180, 40, 200, 60), [(180, 40, 200, 60)]),  # up to the edge
    ],
)
def test_boxes_across_the_seam_are_drawn_at_both_edges(kind, box, shown):
    (edges, looks, _), (others, _, _) = drawn(picture(**{kind: layer(box)}))
    assert sorted(edges) == sorted(shown)
    assert len(set(looks)) == 1
    assert others == []


def test_an_identity_has_one_colour_in_both_views():
    first = picture(ground_truth=layer(BOX, BOX, ids=[3, 4]), detections=layer(BOX, ids=[4]))
    second = picture(ground_truth=layer(BOX, ids=[4]), placed=layer(BOX, BOX, ids=[3, 4]))
    (_, here, _), (_, there, _) = drawn(first, second)
    three, four = here[0][0], here[1][0]
    assert three != four
    assert [look[0] for look in here] == [three, four, four]
    assert [look[0] for look in there] == [four, three, four]


@pytest.mark.parametrize(("first", "step"), [(0, 1), (2**62, 1), (0, 1_000_003)])
def test_colours_of_a_pair_are_far_apart(first, step):
    ids = [first + step * number for number in range(12)]
    colors = list(identity_colors((picture(ground_truth=layer(*[BOX] * 12, ids=ids)), picture())).values())
    distances = [np.abs(np.subtract(a, b)).max() for n, a in enumerate(colors) for b in colors[:n]]
    assert min(distances) > 0.15


def test_no_identity_is_white():
    assert NO_IDENTITY == (1.0, 1.0, 1.0)
    (_, looks, _), _ = drawn(picture(detections=layer(BOX, known=False)))
    assert looks[0][0] == NO_IDENTITY


def test_the_three_kinds_look_different_and_the_legend_says_how():
    (_, looks, axes), _ = drawn(picture(**{kind: layer(BOX) for kind in STYLES}))
    assert len({look[1:] for look in looks}) == 3
    legend = axes.figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == [style.label for style in STYLES.values()]


def test_numbers_stand_at_their_boxes():
    (_, _, axes), _ = drawn(picture(detections=layer(BOX, values=[0.987]), placed=layer(BOX, values=[0.2])))
    score, covisibility = axes.texts
    assert (score.get_text(), covisibility.get_text()) == ("0.99", "0.20")
    assert score.get_position()[1] < BOX[1]
    assert covisibility.get_position()[1] > BOX[3]


def test_a_pair_without_objects():
    (edges, _, axes), (others, _, _) = drawn(picture())
    assert edges == others == []
    assert axes.get_ylim() == (70.0, 30.0)


@pytest.mark.parametrize(
    ("box", "shown"),
    [
        ((0, 10, 30, 50), (70.0, 6.0)),  # a tall tree
        ((0, 40, 30, 95), (99.0, 30.0)),  # a near foot
        ((0, -20, 30, 130), (100.0, 0.0)),  # never more than there is
    ],
)
def test_no_box_is_cut_off(box, shown):
    views = drawn(picture(ground_truth=layer(BOX)), picture(placed=layer(box)))
    assert [axes.get_ylim() for _, _, axes in views] == [pytest.approx(shown)] * 2  # both views alike


def test_matches_are_lines_between_the_views():
    def view(name):
        boxes = np.array([[10, 40, 30, 60], [580, 40, 620, 60]], np.float32)
        layer = Layer(boxes, np.arange(2), np.ones(2, bool))
        return ViewPicture(np.full((300, 600, 3), 128, np.uint8), name, 600.0, layer, layer)

    plain = draw_views([view("a"), view("b")], "")
    matched = draw_views([view("a"), view("b")], "", [MatchLine(0, 1, 0.9, False), MatchLine(1, 0, 0.2, True)])
    lines = [artist for artist in matched.artists if isinstance(artist, ConnectionPatch)]
    assert not plain.artists
    assert [(line.xy1, line.xy2) for line in lines] == [((20, 60), (0, 40)), ((0, 60), (20, 40))]  # around the seam
    assert [line.get_linestyle() == "-" for line in lines] == [True, False]
    texts = [text.get_text() for axes in matched.axes for text in axes.texts]
    assert "0.90" in texts
    assert "0.20 wrong" in texts


def test_a_view_by_itself_has_the_names_of_its_classes():
    found = layer(BOX, (90, 45, 120, 60), values=[0.9, 0.4])._replace(classes=["raccoon", "fox"])
    photo = ViewPicture(np.full((HEIGHT, WIDTH, 3), 90, np.uint8), "photo", np.inf, layer(BOX), found)
    figure = draw_views([photo], "title")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["raccoon 0.90", "fox 0.40"]
    assert axes.get_ylim() == (HEIGHT, 0)  # all of it is shown
    assert len(figure.legends[0].get_texts()) == 2  # nothing is placed here from elsewhere
