"""Another embedder without downtime: a new collection is filled while the old one serves, then followed.

Recall trusts SQL for what is active, and takes from a store only what is near. So two stores may serve side by side
while processes are restarted with the new settings one after the other: each is asked by its own embedder, and whoever
asks the one that lags finds the newest memories by their words. The mark of the embedder that an item was last sent by
(`vector_fingerprint`) says what the new store does not have yet.
"""

from __future__ import annotations

import threading

from sqlalchemy import or_

from smartmem.db.engine import Database
from smartmem.db.tables import memory_items
from smartmem.memory.reconcile import Drift, mend_missing, pages_of_active, reconcile
from smartmem.rag.protocols import Embedder, VectorStore

ROUNDS = 10  # of catching up with what workers write meanwhile; each is a fraction of the one before


def reembed(
    db: Database,
    store: VectorStore,
    embedder: Embedder,
    *,
    follow: threading.Event | None = None,
    every_s: float = 1.0,
) -> Drift:
    """Fill a new store by a new embedder, beside whatever works with the old ones; `follow`: until the event is set.

    Resumable: what is in the new store already is left alone. Returns what was mended altogether.
    """
    drift = reconcile(db, store, embedder)
    for _ in range(ROUNDS):
        if not catch_up(db, store, embedder, drift):
            break
    if follow is not None:
        while not follow.wait(every_s):
            catch_up(db, store, embedder, drift)
        last = reconcile(db, store, embedder)
        drift.orphaned += last.orphaned
        drift.repaired += last.repaired
    return drift


def catch_up(db: Database, store: VectorStore, embedder: Embedder, drift: Drift | None = None) -> int:
    """Bring what another embedder was the last to embed into this store as well; returns how many memories."""
    made_by = memory_items.c.vector_fingerprint
    behind = or_(made_by.is_(None), made_by != embedder.fingerprint)
    count = 0
    for rows in pages_of_active(db, behind):
        mend_missing(db, store, embedder, rows, drift or Drift())
        count += len(rows)
    return count
