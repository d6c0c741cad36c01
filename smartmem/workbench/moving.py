"""From one embedder and store to others, named by a settings file, while the old ones serve."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartmem.errors import ConfigError
from smartmem.memory.reembed import reembed
from smartmem.settings import Settings

if TYPE_CHECKING:
    from smartmem.workbench import Workbench


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What was brought into the new store."""

    embedder: str
    store: str
    embedded: int
    removed: int


def move(bench: Workbench, to: str | Path | Settings, *, follow: threading.Event | None = None) -> Moved:
    """Fill the store that `to` names by the embedder that it names, from the memories of `bench`.

    Raises `ConfigError` when another embedder would write into the store that is in use: vectors of two embedders in
    one store make every search wrong without any error.
    """
    from smartmem.workbench import Workbench

    settings = to if isinstance(to, Settings) else Settings.load(to)
    settings = settings.with_changes({"database_url": bench.settings.database_url})
    with Workbench.open(settings=settings) as new:
        old_place, place = _place(bench.store_spec), _place(new.store_spec)
        if old_place == place and new.settings.embedder != bench.settings.embedder:
            raise ConfigError(
                f"the new embedder would write into the store that is in use ({place}); name another in the new "
                'settings, e.g. store = { name = "memory", path = "smartmem.vectors-2.db" }, or another `collection`'
            )
        drift = reembed(new.db, new.store, new.embedder, follow=follow)
        made_by = new.embedder.fingerprint
    return Moved(embedder=made_by, store=place, embedded=drift.repaired - drift.orphaned, removed=drift.orphaned)


def _place(spec: dict[str, Any]) -> str:
    where = spec.get("uri") or (Path(spec["path"]).expanduser().absolute() if "path" in spec else None)
    return " ".join(str(part) for part in (spec.get("name"), where, spec.get("collection")) if part)
