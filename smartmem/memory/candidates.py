"""Which active memories a new fact may concern: by slot and words from SQL, by meaning from the vector store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import or_, select

from smartmem.db.engine import Database
from smartmem.db.tables import memory_items
from smartmem.errors import ModelError, StoreError
from smartmem.memory.decide import Found
from smartmem.memory.facts import Fact
from smartmem.memory.similarity import similarity
from smartmem.memory.sync import other_embedder
from smartmem.rag.protocols import Embedder, VectorStore
from smartmem.rag.types import Filter
from smartmem.telemetry import log
from smartmem.types import MemoryStatus

# Up to here all of a user's memories are read and compared by words; beyond, SQL gives slots and hashes only.
SCAN = 500


class SqlCandidates:
    """Slot and words, from SQL alone; also what `VectorCandidates` falls back to."""

    def __init__(self, db: Database, limit: int = 5) -> None:
        self._db, self._limit = db, limit

    def find(self, fact: Fact, user_id: int, namespace: str) -> Found:
        return Found(rows=self.read(fact, user_id, namespace, ())[: self._limit])

    def read(self, fact: Fact, user_id: int, namespace: str, ids: Sequence[str]) -> list[Mapping[str, Any]]:
        """Rows of the same hash or slot, those under `ids`, and the newest `SCAN`; most alike first."""
        c = memory_items.c
        mine = (c.user_id == user_id) & (c.namespace == namespace) & (c.status == MemoryStatus.ACTIVE.value)
        sure = [c.content_hash == fact.content_hash, c.id.in_(ids)]
        if fact.slot:
            sure.append(c.slot == fact.slot)
        rows: dict[str, Mapping[str, Any]] = {}
        with self._db.read() as conn:
            for query in (
                select(memory_items).where(mine, or_(*sure)),
                select(memory_items).where(mine).order_by(c.valid_from.desc(), c.id.desc()).limit(SCAN),
            ):
                rows.update((row["id"], dict(row)) for row in conn.execute(query).mappings())
        return sorted(rows.values(), key=lambda row: (-_likeness(fact, row), row["id"]))


class VectorCandidates:
    """Adds the nearest by meaning; when store or embedder are down SQL alone answers, and the reason is kept."""

    def __init__(self, db: Database, store: VectorStore, embedder: Embedder, limit: int = 5) -> None:
        self._sql = SqlCandidates(db, limit)
        self._store, self._embedder, self._limit = store, embedder, limit

    def find(self, fact: Fact, user_id: int, namespace: str) -> Found:
        ids: list[str] = []
        reason = None
        try:
            vector = self._embedder.embed_documents([fact.content])[0]
            where = Filter.where(user_id=user_id, namespace=namespace)
            hits = self._store.search(vector, self._limit, where)
            reason = other_embedder(hits, self._embedder)
            ids = [] if reason else [hit.chunk.id for hit in hits]
        except (StoreError, ModelError) as error:
            reason = f"{type(error).__name__}: {error}"
            log.warning("candidates from SQL alone: %s", type(error).__name__)
        rows = self._sql.read(fact, user_id, namespace, ids)
        # Half by words (slots first), the rest by meaning, so that neither way in can crowd out the other.
        by_words = rows[: max(1, self._limit - self._limit // 2)]
        chosen = {row["id"] for row in by_words}
        near = {item_id: rank for rank, item_id in enumerate(ids)}
        others = sorted((r for r in rows if r["id"] in near and r["id"] not in chosen), key=lambda r: near[r["id"]])
        rest = [row for row in rows if row["id"] not in chosen and row["id"] not in near]
        return Found(rows=[*by_words, *others, *rest][: self._limit], fallback_reason=reason)


def _likeness(fact: Fact, row: Mapping[str, Any]) -> float:
    if row["content_hash"] == fact.content_hash:
        return 3.0
    if fact.slot and row["slot"] == fact.slot:
        return 2.0 + similarity(fact.content, row["content"])
    return similarity(fact.content, row["content"])
