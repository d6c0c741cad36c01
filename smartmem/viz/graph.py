"""The way of one memory as a graph: from the words that it comes from to its vector."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smartmem.errors import needs
from smartmem.viz.figures import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
# Columns from left to right; audit rows hang below the memory that they tell of.
_COLUMNS = ("message", "event", "job", "decision", "memory", "vector")
_BELOW = {"audit": "memory"}
_FILL = {"message": "#DCEBF7", "event": "#DCEBF7", "job": "#EEEEEE", "vector": "#FBE3D3"}
_OTHERS = "#D9F0E7"
_WIDE, _HIGH = 0.80, 0.80  # of a box; columns and rows are 1 apart
_LINE = 24  # characters
_LINES = 3


def lineage_graph(ax: Axes, steps: Sequence[Row], title: str = "Where a memory comes from") -> Axes:
    """`{"stage", "at" (a datetime or None), "text"}`, as `smartmem.viz.notebook.lineage_rows` makes them.

    Stations that a memory never passed leave no gap; several of one kind stand below each other.
    """
    with needs("eval"):
        from matplotlib.patches import FancyBboxPatch

    stages = [stage for stage in _COLUMNS if any(_column(step) == stage for step in steps)]
    placed: list[tuple[Row, int, int]] = []
    for step in steps:
        x = stages.index(_column(step))
        placed.append((step, x, sum(column == x for _, column, _ in placed)))
    for step, x, y in placed:
        fill = _FILL.get(str(step["stage"]), _OTHERS)
        corner = (x - _WIDE / 2, y - _HIGH / 2)
        ax.add_patch(FancyBboxPatch(corner, _WIDE, _HIGH, boxstyle="round,pad=0.02", fc=fill, ec="#777777", lw=0.8))
        ax.text(x, y - 0.27, step["stage"], ha="center", va="center", weight="bold", fontsize=9, color="#222222")
        at = "" if step["at"] is None else f"{step['at']:%Y-%m-%d %H:%M:%S}"
        words = "\n".join(filter(None, [at, _wrapped(str(step["text"]))]))
        ax.text(x, y - 0.14, words, ha="center", va="top", fontsize=6.5, color="#222222", linespacing=1.25)
    for _, x, y in placed:
        if y == 0 and x:
            _arrow(ax, (x - 1 + _WIDE / 2 + 0.02, 0), (x - _WIDE / 2 - 0.03, 0))
        elif y:
            _arrow(ax, (x, y - 1 + _HIGH / 2 + 0.02), (x, y - _HIGH / 2 - 0.03))
    rows = max((y for _, _, y in placed), default=0)
    ax.set_xlim(-0.5, max(len(stages), 1) - 0.5)
    ax.set_ylim(rows + 0.5, -0.5)
    ax.set_axis_off()
    ax.set_title(label(title, 90))
    return ax


def _column(step: Row) -> str:
    stage = str(step["stage"])
    return _BELOW.get(stage, stage)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "->", "color": "#444444", "lw": 1.2})


def _wrapped(text: str) -> str:
    shown = label(text, 200)
    # A Chinese character is as wide as two Latin ones, and a line may break behind any of them.
    wide = sum(ord(character) > 0x2E7F for character in shown) > len(shown) / 2
    lines = textwrap.wrap(shown, _LINE // 2 if wide else _LINE, max_lines=_LINES, placeholder="…")
    return "\n".join(lines)
