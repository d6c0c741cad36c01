"""smartmem: from chat message to memory without losing one, and the evidence for which components recall best.

>>> import smartmem
>>> wb = smartmem.open("sqlite:///smartmem.db")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smartmem.workbench import Workbench

__all__ = ["__version__", "open"]
__version__ = "0.1.0"


def open(database: str | None = None, **options: Any) -> Workbench:
    """Open the workbench on a database URL (default: settings, then SQLite in the current folder).

    Imported on the first call, so that ``import smartmem`` stays cheap. See `smartmem.workbench.Workbench`.
    """
    from smartmem.workbench import Workbench

    return Workbench.open(database, **options)
