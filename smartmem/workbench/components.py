"""The components of a workbench, made by name from its settings when they are first asked for."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from smartmem.db.engine import Database
from smartmem.memory.recall import Recaller
from smartmem.rag.protocols import Embedder, VectorStore
from smartmem.rag.registry import create
from smartmem.rag.store.deferred import DeferredStore
from smartmem.settings import Settings


class Components:
    """A database with what its settings name."""

    def __init__(self, settings: Settings, db: Database) -> None:
        self.settings, self.db = settings, db

    @functools.cached_property
    def embedder(self) -> Embedder:
        """The embedder of the settings."""
        made: Embedder = create("embedder", self.settings.embedder)
        return made

    @functools.cached_property
    def store(self) -> VectorStore:
        """The vector store of the settings. One that is away keeps nobody from starting; a wrong setting does."""
        dim = self.embedder.dim
        made = DeferredStore(lambda: create("store", self.store_spec, dim=dim), dim)
        made.try_open()
        return made

    @property
    def store_spec(self) -> dict[str, Any]:
        """What makes the store; vectors kept on this machine lie beside the database unless the settings say where."""
        spec = dict(self.settings.store)
        if spec.get("name") == "memory":
            spec.setdefault("path", str(self._beside("vectors.db")))
        elif spec.get("name") == "milvus" and "uri" not in spec:
            spec.setdefault("path", str(self._beside("milvus")))
        return spec

    def _beside(self, suffix: str) -> Path:
        """A place for vectors: beside an SQLite database under its name, else in the current folder."""
        url = make_url(self.settings.database_url)
        if url.get_backend_name() == "sqlite" and url.database:
            return Path(url.database).with_suffix(f".{suffix}")
        return Path(f"smartmem.{suffix}")

    @property
    def recaller(self) -> Recaller:
        """Recall over this database, store and embedder."""
        return Recaller(
            self.db, self.store, self.embedder, settings=self.settings.recall, mode=self.settings.memory.read.mode
        )
