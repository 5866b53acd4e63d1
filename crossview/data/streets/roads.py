"""What is painted on a road and what wears it: markings, a crossing, patches, cracks and manholes."""

import numpy as np

from crossview.data.streets.ground import GroundPainter


def lay_road(plan: np.random.Generator, ground: GroundPainter, length: float, end: float, road: float) -> list[float]:
    """Paints the road of a street.

    Args:
        plan: Source of randomness.
        ground: The map to paint on.
        length: Distance between the outermost cameras, metres.
        end: How far the road goes on beyond them, metres.
        road: Half of its width, metres.

    Returns:
        Where a crossing is (its s), if there is one.
    """
    ends = np.arange(-end + 8, length + end - 8, 1.0)
    style = int(plan.integers(3))
    if style == 0:
        for shift in (-0.12, 0.12):
            ground.line(ends, np.full_like(ends, shift), (84, 160, 186), 0.1)
    elif style == 1:
        for start in ends[::6]:
            ground.line((start, start + 3), (0, 0), (205, 208, 210), 0.12)
    for _ in range(int(plan.integers(6, 14))):
        s, t = plan.uniform(-40, length + 40), plan.uniform(-road + 1, road - 2)
        shade = plan.uniform(60, 105)
        ground.rectangle((s, s + plan.uniform(1, 6)), (t, t + plan.uniform(0.6, 1.6)), (shade, shade, shade))
    for _ in range(int(plan.integers(10, 30))):
        s, t = plan.uniform(-40, length + 40), plan.uniform(-road, road)
        turns = plan.uniform(0, 2 * np.pi) + np.cumsum(plan.normal(0, 0.35, 24))
        along, across = s + np.cumsum(np.cos(turns)) * 0.22, t + np.cumsum(np.sin(turns)) * 0.22
        ground.line(along, np.clip(across, -road + 0.4, road - 0.4), (68, 68, 68), 0.05)
    for s in plan.uniform(-40, length + 40, 5):
        ground.spot(float(s), float(plan.uniform(-2, 2)), 0.32, (72, 72, 74), 0.0)
    if plan.random() < 0.6:
        s = plan.uniform(0, length)
        for t in np.arange(-road + 0.6, road - 0.4, 1.0):
            ground.rectangle((s, s + 2.8), (t, t + 0.5), (208, 210, 212), 0.06)
        return [s + 1.4]
    return []
