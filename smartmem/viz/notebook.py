"""Charts for notebooks: one call draws one chart as a PNG of fixed size, with words for those who cannot see it.

draw(job_states, path.series, title="Jobs by state")
"""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from smartmem.clock import SystemClock
from smartmem.viz.figures import figure, to_png

_COLOURS = 128  # as a palette, a chart is a third of the size; letters keep their smooth edges
SIZE = (7.2, 4.0)  # inches, at the style sheet's dpi: the same on every screen, so that outputs can be compared


@dataclass(frozen=True, slots=True)
class Chart:
    """A finished picture. Notebooks show the PNG, terminals and screen readers the words."""

    png: bytes = field(repr=False)
    alt: str

    def __repr__(self) -> str:
        return f"Chart({self.alt!r})"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"image/png": self.png, "text/plain": repr(self)}, {"image/png": {"alt": self.alt}}


def draw(
    chart: Callable[..., object], data: Any, *, alt: str = "", size: tuple[float, float] = SIZE, **options: Any
) -> Chart:
    """Call `chart(ax, data, **options)` on fresh axes. `alt` says what can be seen; the title, if nothing is given."""
    with figure(size=size) as (fig, ax):
        chart(ax, data, **options)
        return Chart(_small(to_png(fig)), alt or str(options.get("title", getattr(chart, "__name__", "chart"))))


def draw_many(
    *panels: Callable[[Any], object], alt: str, size: tuple[float, float] = SIZE, columns: int | None = None
) -> Chart:
    """Several charts side by side: each panel is called with its own axes. Rows fill up from the left."""
    wide = columns or len(panels)
    rows = -(-len(panels) // wide)
    with figure(rows, wide, size=size) as (fig, axes):
        places = list(axes.flat) if hasattr(axes, "flat") else [axes]
        for panel, ax in zip(panels, places, strict=False):
            panel(ax)
        for ax in places[len(panels) :]:
            ax.set_visible(False)
        return Chart(_small(to_png(fig)), alt)


def _small(png: bytes) -> bytes:
    """The picture with a palette: notebooks are kept in git with their outputs, so bytes count."""
    from PIL import Image  # matplotlib needs it too

    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(_COLOURS).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def timeline(items: Iterable[Any], now: dt.datetime | None = None) -> list[dict[str, Any]]:
    """Rows for `memory_timeline`, oldest first, from memories as `list_memories` gives them.

    A memory whose `ttl_at` has passed ends there, also before `expire` has come by: recall does not use it any more.
    """
    now = now or SystemClock().now()

    def end(item: Any) -> dt.datetime | None:
        ends: list[dt.datetime] = [at for at in (item.valid_to, item.ttl_at) if at is not None and at <= now]
        return min(ends, default=item.valid_to)

    return [
        {"label": i.content, "start": i.valid_from, "end": end(i), "type": i.memory_type, "status": i.status}
        for i in sorted(items, key=lambda item: (item.valid_from, item.id))
    ]


def lineage_rows(steps: Iterable[Any]) -> list[dict[str, Any]]:
    """Rows for `lineage_graph`, and for a table, from the stations that `lineage` gives."""
    return [{"stage": step.stage, "at": step.at, "text": step.text} for step in steps]
