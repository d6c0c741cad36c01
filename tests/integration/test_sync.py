"""The vector store follows SQL: late, after outages, after deletions, and after drift."""

from __future__ import annotations

import json
from collections.abc import Sequence
from threading import Event
from typing import Any

import pytest
from sqlalchemy import update

from smartmem.db.engine import Database
from smartmem.db.tables import memory_items, memory_jobs
from smartmem.errors import MalformedOutput, StoreUnavailable
from smartmem.memory import govern
from smartmem.memory.forget import forget
from smartmem.memory.recall import Recaller
from smartmem.memory.reconcile import reconcile
from smartmem.memory.reembed import catch_up, reembed
from smartmem.memory.sync import EmbedHandler, request_sync
from smartmem.rag.protocols import Vectors
from smartmem.rag.registry import create
from smartmem.rag.store.deferred import DeferredStore
from smartmem.rag.types import Chunk, Filter
from tests.support.memory import Chain
from tests.support.pipeline import clock_of


def stored(chain: Chain) -> list[str]:
    return sorted(chunk.text for batch in chain.store.iterate(Filter()) for chunk in batch)


def test_items_get_their_vectors_and_the_mark(db: Database) -> None:
    chain = Chain(db)
    chain.say("I live in Leeds.")
    chain.extract()
    (item,) = chain.items()
    assert (item.vector_status, stored(chain)) == ("pending", [])
    chain.sync()
    (item,) = chain.items()
    assert (item.vector_status, item.vector_fingerprint) == ("synced", chain.embedder.fingerprint)
    assert stored(chain) == ["I live in Leeds"]
    (chunk,) = chain.store.get([item.id])
    assert dict(chunk.metadata) == {
        "embedder": chain.embedder.fingerprint,
        "user_id": 1,
        "namespace": "main",
        "conversation_id": "c1",
        "memory_type": "fact",
        "sensitivity_level": 0,
    }


def test_what_is_superseded_leaves_the_store(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I live in Leeds.", "I've moved to Bristol.")
    assert stored(chain) == ["I've moved to Bristol"]
    assert [item.vector_status for item in chain.items()] == ["none", "synced"]


def test_a_store_that_is_down_holds_no_fact_back_and_sync_resumes(db: Database) -> None:
    chain = Chain(db)
    upsert = chain.store.upsert

    def down(chunks: Sequence[Chunk], vectors: Vectors) -> None:
        raise StoreUnavailable("the vector store is away")

    chain.store.upsert = down
    chain.hear("I live in Leeds.", "I work as a nurse.")
    assert chain.active() == ["I live in Leeds", "I work as a nurse"]
    recalled = chain.recaller.recall(1, "Where do I live?", mode="legacy")
    assert [item.content for item in recalled.items][:1] == ["I live in Leeds"]
    chain.store.upsert = upsert
    clock_of(db).advance(120)
    chain.sync()
    clock_of(db).advance(120)
    chain.sync()
    assert stored(chain) == ["I live in Leeds", "I work as a nurse"]


def test_a_long_outage_ends_by_itself(db: Database) -> None:
    """Also what was written so long ago that its jobs are dead gets its vector, once the store answers again."""
    chain = Chain(db)
    upsert = chain.store.upsert

    def down(chunks: Sequence[Chunk], vectors: Vectors) -> None:
        raise StoreUnavailable("the vector store is away")

    handler = EmbedHandler(db, chain.store, chain.embedder)
    chain.store.upsert = down
    chain.say("I live in Leeds.")
    chain.extract()
    for _ in range(6):
        chain._work(handler)
        clock_of(db).advance(60)
    (item,) = chain.items()
    assert [row.status for row in chain.rows(memory_jobs) if row.job_type == "embed"] == ["dead"]
    assert item.vector_status == "failed"
    chain.store.upsert = upsert
    chain.say("I work as a nurse.", user_id=2)
    chain.extract()
    chain._work(handler)
    assert stored(chain) == ["I live in Leeds", "I work as a nurse"]
    assert {row.vector_status for row in chain.items() + chain.items(2)} == {"synced"}


def test_one_text_that_cannot_be_embedded_fails_alone(db: Database) -> None:
    chain = Chain(db)
    embed = chain.embedder.embed_documents

    def picky(texts: Sequence[str]) -> Vectors:
        if any("Leeds" in text for text in texts):
            raise MalformedOutput("no vector for this")
        return embed(texts)

    chain.embedder.embed_documents = picky
    chain.say("I live in Leeds.")
    chain.say("I work as a nurse.", user_id=2)
    chain.extract()
    chain.sync()
    assert stored(chain) == ["I work as a nurse"]
    assert [row.vector_status for row in chain.items() + chain.items(2)] == ["pending", "synced"]


def test_forgotten_in_the_middle_of_a_reconciliation_leaves_nothing_behind(db: Database) -> None:
    chain = Chain(db)
    chain.say("I live in Leeds.")
    chain.extract()
    (item,) = chain.items()
    upsert = chain.store.upsert

    def slow(chunks: Sequence[Chunk], vectors: Vectors) -> None:
        chain.store.upsert = upsert
        forget(db, 1, item.id, store=chain.store)
        chain.sync()  # also the job behind it runs before the reconciliation writes what it has read
        upsert(chunks, vectors)

    chain.store.upsert = slow
    reconcile(db, chain.store, chain.embedder)
    assert stored(chain) == []


def test_a_store_that_is_away_at_the_start_is_opened_later() -> None:
    tries: list[float] = []
    real = create("store", {"name": "memory"}, dim=4)

    def make() -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise StoreUnavailable("no server there")
        return real

    store = DeferredStore(make, 4, retry_s=3600)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="no server there"):
            store.get(["a"])
    assert len(tries) == 1  # nobody waits for a time-out again so soon
    store = DeferredStore(make, 4, retry_s=0)
    assert store.get(["a"]) == []
    assert store.count(Filter()) == 0


def test_deleted_in_the_middle_of_a_sync_stays_deleted(db: Database) -> None:
    chain = Chain(db)
    chain.say("I live in Leeds.")
    chain.extract()
    (item,) = chain.items()
    embed, upsert = chain.embedder.embed_documents, chain.store.upsert

    def slow(chunks: Sequence[Chunk], vectors: Vectors) -> None:
        govern.delete_memory(db, 1, item.id)  # after the item was read as active, before its vector is written
        upsert(chunks, vectors)

    chain.store.upsert = slow
    handler = EmbedHandler(db, chain.store, chain.embedder)
    chain._work(handler)  # the running sync; the deletion's own job comes behind it
    chain.store.upsert = upsert
    assert embed is not None
    assert chain.recaller.recall(1, "Where do I live?", mode="rag").items == ()
    assert chain.recaller.recall(1, "Where do I live?", mode="hybrid").items == ()
    chain.sync()
    assert stored(chain) == []
    assert chain.items()[0].vector_status == "none"


def test_forgotten_in_the_middle_of_a_sync_leaves_nothing_behind(db: Database) -> None:
    chain = Chain(db)
    chain.say("I live in Leeds.")
    chain.extract()
    (item,) = chain.items()
    upsert = chain.store.upsert

    def slow(chunks: Sequence[Chunk], vectors: Vectors) -> None:
        forget(db, 1, item.id, store=chain.store)
        upsert(chunks, vectors)
        chain.store.upsert = upsert

    chain.store.upsert = slow
    chain.sync()
    chain.sync()
    assert stored(chain) == []
    assert chain.items() == []


def test_an_edit_during_a_sync_is_synced_again(db: Database) -> None:
    chain = Chain(db)
    chain.say("I live in Leeds.")
    chain.extract()
    (item,) = chain.items()
    upsert = chain.store.upsert

    def slow(chunks: Sequence[Chunk], vectors: Vectors) -> None:
        chain.store.upsert = upsert
        govern.edit_memory(db, 1, item.id, version=1, content="I live in York")
        upsert(chunks, vectors)

    chain.store.upsert = slow
    chain.sync()
    assert stored(chain) == ["I live in York"]
    assert chain.items()[0].vector_status == "synced"


def test_reconcile_finds_and_mends_drift_both_ways(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I live in Leeds.", "I work as a nurse.", "I love jazz.")
    leeds, nurse, jazz = chain.items()
    chain.store.delete([leeds.id])  # lost
    (chunk,) = chain.store.get([nurse.id])
    stale = Chunk(
        id=nurse.id, document_id=nurse.id, start=0, end=5, text="stale", order=0, metadata=dict(chunk.metadata)
    )
    orphan = Chunk(id="gone", document_id="gone", start=0, end=4, text="gone", order=0, metadata={"user_id": 1})
    chain.store.upsert([stale, orphan], chain.embedder.embed_documents(["stale", "gone"]))
    look = reconcile(db, chain.store, chain.embedder, dry_run=True)
    assert (look.checked, look.missing, look.stale, look.orphaned, look.repaired) == (3, 1, 1, 1, 0)
    assert look.examples == {"missing": [leeds.id], "stale": [nurse.id], "orphaned": ["gone"]}
    assert reconcile(db, chain.store, chain.embedder).repaired == 3
    assert reconcile(db, chain.store, chain.embedder).clean
    assert stored(chain) == ["I live in Leeds", "I love jazz", "I work as a nurse"]
    assert jazz.id in {c.id for batch in chain.store.iterate(Filter()) for c in batch}


def test_a_change_of_embedder_fills_a_new_store_while_the_old_one_serves(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I live in Leeds.", "I love jazz.", "I work as a nurse.")
    other: Any = create("embedder", {"name": "mock", "dim": 16})
    fresh = create("store", {"name": "memory"}, dim=other.dim)
    new = Recaller(db, fresh, other)

    def found(recaller: Recaller) -> list[str]:
        recalled = recaller.recall(1, "Leeds", mode="rag", min_score=0)
        assert recalled.fallback_reason is None
        return sorted(item.content for item in recalled.items)

    drift = reembed(db, fresh, other)
    assert (drift.missing, drift.repaired) == (3, 3)
    assert found(chain.recaller) == found(new) == ["I live in Leeds", "I love jazz", "I work as a nurse"]
    # Old workers go on: what they write, change and remove until they are restarted reaches the new store as well.
    chain.hear("I've moved to Bristol.", "I am allergic to peanuts.", day=1)
    govern.delete_memory(db, 1, chain.items()[1].id)
    chain.sync()
    left = ["I am allergic to peanuts", "I work as a nurse", "I've moved to Bristol"]
    assert found(chain.recaller) == left
    assert found(new) == ["I work as a nurse"]  # what is gone is gone at once, what is new is not there yet
    assert catch_up(db, fresh, other) == 2
    assert catch_up(db, fresh, other) == 0
    assert found(new) == found(chain.recaller) == left
    done = Event()
    done.set()
    assert reembed(db, fresh, other, follow=done).orphaned == 2  # Leeds and jazz leave the new store
    assert fresh.count(Filter()) == 3


def test_jobs_that_went_dead_with_the_store_are_asked_for_again(db: Database) -> None:
    chain = Chain(db)
    chain.say("I live in Leeds.")
    chain.extract()
    with db.begin() as conn:
        conn.execute(
            update(memory_jobs)
            .where(memory_jobs.c.job_type == "embed")
            .values(status="dead", due_at=None, order_key=None)
        )
        conn.execute(update(memory_items).values(vector_status="failed"))
    assert chain.sync().claimed == 0
    assert request_sync(db) == 1
    chain.sync()
    assert chain.items()[0].vector_status == "synced"


def test_a_payload_without_items_is_dead_at_once(db: Database) -> None:
    from smartmem.jobs.queue import enqueue
    from tests.support.pipeline import job

    chain = Chain(db)
    with db.begin() as conn:
        enqueue(conn, [job(1, job_type="embed", items="nonsense")])
    chain.sync()
    (row,) = chain.rows(memory_jobs)
    assert (row.status, "list of item ids" in row.last_error) == ("dead", True)


def test_reconcile_runs_as_a_job(db: Database) -> None:
    from smartmem.jobs.queue import enqueue
    from tests.support.pipeline import job

    chain = Chain(db)
    chain.hear("I live in Leeds.")
    chain.store.delete([chain.items()[0].id])
    with db.begin() as conn:
        enqueue(conn, [job(1, job_type="reconcile")])
    chain.sync()
    told = json.loads(next(r for r in chain.rows(memory_jobs) if r.job_type == "reconcile").result)
    assert (told["missing"], told["repaired"]) == (1, 1)
    assert stored(chain) == ["I live in Leeds"]
