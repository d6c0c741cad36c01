"""smartmem: from chat message to memory without losing one, and the evidence for which components recall best.

>>> import smartmem
>>> wb = smartmem.open("sqlite:///smartmem.db")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from smartmem.clock import Clock
    from smartmem.settings import Settings
    from smartmem.workbench import Workbench

    Section = Mapping[str, Any] | None

__all__ = ["__version__", "open"]
__version__ = "0.1.0"


def open(
    database: str | None = None,
    *,
    settings: Settings | str | Path | None = None,
    create: bool = True,
    embedder: Section = None,
    store: Section = None,
    chat_search: Section = None,
    outbox: Section = None,
    jobs: Section = None,
    extract: Section = None,
    memory: Section = None,
    recall: Section = None,
    rerank: Section = None,
    web: Section = None,
    clock: Clock | None = None,
) -> Workbench:
    """Open the workbench on a database URL (default: settings, then SQLite in the current folder).

    `settings` is a file (default: `smartmem.toml` here, if there is one) or a `Settings`. The rest replaces whole
    sections of it, with the keys that `smartmem init` writes: `embedder={"name": "mock"}`, `jobs={"batch": 50}`.
    With `create=False` a missing SQLite file is an error. Raises `ConfigError` for what cannot be used,
    `StoreUnavailable` when the database cannot be reached.

    Imported on the first call, so that ``import smartmem`` stays cheap. See `smartmem.workbench.Workbench`.
    """
    from smartmem.workbench import Workbench

    return Workbench.open(
        database, settings=settings, create=create, clock=clock, embedder=embedder, store=store,
        chat_search=chat_search, outbox=outbox, jobs=jobs, extract=extract, memory=memory, recall=recall,
        rerank=rerank, web=web,
    )  # fmt: skip
