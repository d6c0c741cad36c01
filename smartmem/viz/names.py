"""Names of points in a chart, each where it covers least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Box = tuple[float, float, float, float]  # left, bottom, right, top, in pixels
Point = tuple[float, float, float | None, float | None]  # x, y, and the ends of its interval
# Where a name may stand, the best place first: offset in typographic points, and the side of it that is nearest.
_PLACES = (
    (9, 7, "left"),
    (9, -14, "left"),
    (-9, 7, "right"),
    (-9, -14, "right"),
    (0, 22, "center"),
    (0, -30, "center"),
)
_LETTER = (4.6, 9.0)  # nearly the width and height of one at 8 points
_OUTSIDE = 4.0  # a name outside the axes is worse than one over a line


def write_names(ax: Axes, names: Sequence[str], points: Sequence[Point]) -> None:
    """Write each name beside its point, where it covers least of points, intervals and the names before it."""
    figure = ax.get_figure(root=True)
    assert figure is not None  # noqa: S101 - axes that are drawn on have one
    figure.draw_without_rendering()  # only now have the axes their size
    scale = figure.dpi / 72
    room = ax.get_window_extent()
    inside: Box = (room.x0, room.y0, room.x1, room.y1)
    places = [_pixels(ax, x, y) for x, y, _, _ in points]
    taken = [(x - 5 * scale, y - 5 * scale, x + 5 * scale, y + 5 * scale) for x, y in places]
    for x, y, low, high in points:
        (left, bottom), (_, top) = (
            _pixels(ax, x, y if low is None else low),
            _pixels(ax, x, y if high is None else high),
        )
        taken.append((left - scale, bottom, left + scale, top))
    for name, point, at in zip(names, points, places, strict=True):
        boxes = [_box(name, at, place, scale) for place in _PLACES]
        costs = [sum(_common(box, other) for other in taken) + _OUTSIDE * _lost(box, inside) for box in boxes]
        best = costs.index(min(costs))
        right, up, side = _PLACES[best]
        taken.append(boxes[best])
        ax.annotate(name, point[:2], xytext=(right, up), textcoords="offset points", fontsize=8, ha=side)


def _pixels(ax: Axes, x: float, y: float) -> tuple[float, float]:
    across, up = ax.transData.transform((x, y))
    return float(across), float(up)


def _box(name: str, at: tuple[float, float], place: tuple[int, int, str], scale: float) -> Box:
    wide, high = _LETTER[0] * scale * len(name), _LETTER[1] * scale
    left = at[0] + place[0] * scale - {"left": 0.0, "center": wide / 2, "right": wide}[place[2]]
    bottom = at[1] + place[1] * scale
    return left, bottom, left + wide, bottom + high


def _common(a: Box, b: Box) -> float:
    """The area that two boxes share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _lost(box: Box, room: Box) -> float:
    """The area of a box outside of the room."""
    return (box[2] - box[0]) * (box[3] - box[1]) - _common(box, room)
