"""Work that goes on while the notebook is used: relay and worker in threads, from `Workbench.start` to `stop`.

work = wb.start()
wb.append(...)          # becomes a memory by itself
work                    # in a notebook: what waits and what is done
work.stop()
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from smartmem.telemetry import log
from smartmem.workbench.reports import DrainReport

if TYPE_CHECKING:
    from smartmem.workbench import Workbench


class Background:
    """Runs until `stop`, the end of its `with` block or the workbench's `close`, whichever is first.

    A kernel that dies meanwhile loses nothing: leases run out, and the next worker goes on.
    """

    def __init__(self, bench: Workbench, workers: int | None = None) -> None:
        self._bench, self._told = bench, threading.Event()
        self._report: DrainReport | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(workers,), name="smartmem-work", daemon=True)
        self._thread.start()

    def _run(self, workers: int | None) -> None:
        try:
            self._report = self._bench.runner.run(self._told, workers=workers)
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody can see it, in stop()
            self._error = error
            log.error("the work in the background ended by %s: %s", type(error).__name__, error)

    @property
    def running(self) -> bool:
        """Whether it still works; False also when an error ended it, which `stop` then raises."""
        return self._thread.is_alive()

    def stop(self) -> DrainReport:
        """Finish or release what is held, and say what was done. Raises what ended the work, if anything did."""
        self.end()
        if self._error is not None:
            raise self._error
        assert self._report is not None  # noqa: S101 - the thread ends by a report or by an error
        return self._report

    def end(self) -> None:
        """The same without a word, for whoever closes the workbench; an error was logged when it happened."""
        self._told.set()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Background({self._said()})"

    def _repr_html_(self) -> str:
        return f"<p>{self._said()}</p>{self._bench.status()._repr_html_()}"

    def _said(self) -> str:
        if self.running:
            return "working"
        return f"ended by {type(self._error).__name__}; stop() raises it" if self._error else "stopped"
