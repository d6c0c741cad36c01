"""Charts of memory quality: confusion of decisions, the curve of a gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from smartmem.viz.figures import colours, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OPERATIONS = ("ADD", "UPDATE", "DELETE", "NONE")


def confusion(ax: Axes, counts: Mapping[str, Mapping[str, int]], title: str = "Decisions") -> Axes:
    """`{gold: {made: count}}` as a table in shades; each row is shaded by its own share, its counts are written in."""
    rows = [name for name in OPERATIONS if name in counts] + [n for n in counts if n not in OPERATIONS]
    made = [*OPERATIONS, *sorted({name for row in counts.values() for name in row} - set(OPERATIONS))]
    table = np.array([[counts[gold].get(name, 0) for name in made] for gold in rows], dtype=float)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (y, x), count in np.ndenumerate(table):
        ink = "white" if shares[y, x] > 0.55 else "#222222"
        ax.text(x, y, f"{count:.0f}", ha="center", va="center", color=ink)
    ax.set_xticks(range(len(made)), made)
    ax.set_yticks(range(len(rows)), rows)
    ax.grid(visible=False)
    ax.set(title=label(title, 90), xlabel="made", ylabel="gold")
    return ax


def gate_curves(ax: Axes, curves: Mapping[str, Sequence[Any]], title: str = "Answered against silent") -> Axes:
    """`{arm: points with .answered and .silent}`: each threshold is a point. A curve begins where the retriever ends:
    what it did not find no threshold can answer."""
    palette = colours(ax)
    for index, (arm, points) in enumerate(curves.items()):
        line = ("-", "--", "-.", ":")[index % 4]
        ax.plot(
            [point.silent for point in points], [point.answered for point in points],
            color=palette[index % len(palette)], ls=line, label=label(arm), drawstyle="steps-post",
        )  # fmt: skip
    ax.plot([0, 1], [1, 0], color="#999999", lw=1, ls=":", label="by dice, all found")
    ax.set(xlim=(0, 1), ylim=(0, 1.02), title=label(title, 90))
    ax.set(xlabel="silent: share of those without an answer")
    ax.set(ylabel="answered: share with a relevant hit")
    ax.legend(loc="upper right", fontsize=7)
    return ax
