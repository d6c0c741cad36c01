"""Job states while work goes on: a widget in a notebook, a line of text anywhere else.

with live_states(lambda: wb.status().jobs):
    wb.drain()
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from html import escape
from types import TracebackType
from typing import Any, Self, TextIO

from smartmem.errors import SmartMemError
from smartmem.viz.charts import STATE_COLOURS

Counts = Mapping[str, int]
EVERY_S = 0.5
JOIN_S = 10.0


class LiveStates:
    """Asks `source` every so often in a thread of its own and shows the answer, once more when the block ends.

    It only looks: an error of `source` (a database that is away) is shown and asked again, and never ends the work.
    After the block nothing runs any more; what was shown last stays, in a notebook as plain HTML: a widget would be
    empty when the notebook is opened again.
    """

    def __init__(self, source: Callable[[], Counts], *, every_s: float = EVERY_S, stream: TextIO | None = None) -> None:
        self._source, self._every_s = source, every_s
        self._stream = stream or sys.stderr
        self._view = None if stream is not None else _View.here()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.last: Counts = {}
        self.looks = 0

    def __enter__(self) -> Self:
        self._stop.clear()
        self._thread = threading.Thread(target=self._watch, name="smartmem-live", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)
        self._look()
        if self._view is not None:
            self._view.close()
        else:
            self._stream.write("\n" if self._stream.isatty() else f"{as_text(self.last)}\n")

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        try:
            self.last = dict(self._source())
            text, html = as_text(self.last), as_html(self.last)
        except SmartMemError as error:
            text, html = str(error), f"<p>{escape(str(error))}</p>"
        self.looks += 1
        if self._view is not None:
            self._view.show(html)
        elif self._stream.isatty():
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()


def live_states(source: Callable[[], Counts], *, every_s: float = EVERY_S, stream: TextIO | None = None) -> LiveStates:
    """Watch counts by state for the length of a `with` block. With `stream`, or without a notebook, as text."""
    return LiveStates(source, every_s=every_s, stream=stream)


def as_text(counts: Counts) -> str:
    """`pending 3, success 7`, in the order of a job's life."""
    return ", ".join(f"{state} {count}" for state, count in _ordered(counts)) or "no jobs"


def as_html(counts: Counts) -> str:
    """One bar, a stretch for each state, with the counts below it."""
    total = sum(counts.values()) or 1
    parts = "".join(
        f'<div style="width:{100 * count / total:.2f}%;background:{STATE_COLOURS.get(state, "#CC79A7")}"></div>'
        for state, count in _ordered(counts)
    )
    bar = f'<div style="display:flex;height:14px;width:100%;max-width:640px;background:#EEEEEE">{parts}</div>'
    return f'<div role="img" aria-label="{escape(as_text(counts))}">{bar}<div>{escape(as_text(counts))}</div></div>'


def _ordered(counts: Counts) -> list[tuple[str, int]]:
    known = [(state, counts[state]) for state in STATE_COLOURS if counts.get(state)]
    return known + sorted((state, count) for state, count in counts.items() if state not in STATE_COLOURS and count)


class _View:
    """A widget in the output of the running cell, which leaves its last content behind."""

    def __init__(self, widgets: Any, display: Any) -> None:
        self._display = display
        self._box = widgets.HTML(value=as_html({}))
        self._handle = display.display(self._box, display_id=True)

    @classmethod
    def here(cls) -> Self | None:
        """One where a notebook's kernel runs this and ipywidgets is there, else None."""
        kernel = sys.modules.get("IPython")
        shell = kernel.get_ipython() if kernel is not None else None
        if shell is None or not hasattr(shell, "kernel"):
            return None
        try:
            import ipywidgets
        except ImportError:
            return None
        from IPython import display

        return cls(ipywidgets, display)

    def show(self, html: str) -> None:
        self._box.value = html

    def close(self) -> None:
        self._handle.update(self._display.HTML(self._box.value))
        self._box.close()
