"""From messages to memories on a real database: modes, history, settings, audit, races."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import Any

import pytest
from sqlalchemy import update

from smartmem.db.engine import Database
from smartmem.db.tables import memory_audit_logs, memory_decisions, memory_items, memory_jobs
from smartmem.errors import MalformedOutput, StoreUnavailable, TransientModelError
from smartmem.memory import govern
from smartmem.memory.extract import Extraction, create_extractor
from smartmem.memory.facts import Candidate, Message
from smartmem.settings import ExtractSettings
from tests.support.memory import Chain
from tests.support.pipeline import START, clock_of


class Fixed:
    """Answers every message with the same candidates, or raises."""

    concurrency = 1

    def __init__(self, *candidates: Candidate, error: Exception | None = None) -> None:
        self.candidates, self.error, self.asked = candidates, error, 0

    def extract(self, message: Message) -> Extraction:
        self.asked += 1
        if self.error:
            raise self.error
        return Extraction(facts=self.candidates)


def test_legacy_adds_what_is_new_by_its_content(db: Database) -> None:
    chain = Chain(db, "legacy", extractor=create_extractor("mock"))
    for text in ("I like tea", "Ｉ LIKE tea ", "I like jazz"):
        chain.say(text)
    chain.extract()
    assert chain.active() == ["I like tea", "I like jazz"]
    assert [json.loads(job.result)["written"] for job in chain.extract_jobs() if job.result] == [{"ADD": 1}, {"ADD": 1}]
    audit = chain.rows(memory_audit_logs)
    assert [(a.operation, a.operator, a.item_version) for a in audit] == [("create", "system", 1)] * 2
    embeds = [job for job in chain.rows(memory_jobs) if job.job_type == "embed"]
    assert [len(json.loads(job.payload)["items"]) for job in embeds] == [2]  # one a user and batch
    assert chain.rows(memory_decisions) == []


def test_a_speaker_is_named_in_what_the_mock_keeps(db: Database) -> None:
    chain = Chain(db, "legacy", extractor=create_extractor("mock"))
    chain.say("I painted a sunrise", speaker="Melanie")
    chain.extract()
    assert chain.active() == ["Melanie: I painted a sunrise"]


def test_a_correction_supersedes_and_keeps_the_interval(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I live in Leeds.")
    chain.hear("I've moved to Bristol.", day=30)
    old, new = chain.items()
    assert (old.status, new.status) == ("superseded", "active")
    assert (old.valid_to, old.superseded_by, old.active_hash) == (new.valid_from, new.id, None)
    then = govern.list_memories(db, 1, as_of=START + dt.timedelta(days=10))
    assert [item.content for item in then.items] == ["I live in Leeds"]
    assert [i.content for i in govern.list_memories(db, 1).items] == ["I've moved to Bristol"]
    decision = chain.rows(memory_decisions)[-1]
    assert (decision.operation, decision.written) == ("UPDATE", "UPDATE")
    assert (decision.target_id, decision.memory_id) == (old.id, new.id)
    operations = [(a.memory_id, a.operation, a.item_version) for a in chain.rows(memory_audit_logs)]
    assert sorted(operations) == sorted([(old.id, "create", 1), (old.id, "update", 2), (new.id, "create", 1)])


def test_a_denial_ends_the_old_and_adds_the_new(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I love jazz.", "I can't stand jazz.")
    assert chain.active() == ["I can't stand jazz"]
    assert [a.operation for a in chain.rows(memory_audit_logs)].count("delete") == 1


def test_repeats_add_nothing(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I'm allergic to peanuts.", "i'm ALLERGIC to  peanuts.", "Remember that I'm allergic to peanuts!")
    assert len(chain.active()) == 1
    assert [d.operation for d in chain.rows(memory_decisions)] == ["ADD", "NONE", "NONE"]


@pytest.mark.parametrize(
    ("taken_back", "status", "operation"),
    [
        ("Please forget that I live in Leeds.", "deleted", "delete"),
        ("I no longer live in Leeds.", "archived", "archive"),
    ],
)
def test_what_is_taken_back_is_used_no_more(db: Database, taken_back: str, status: str, operation: str) -> None:
    chain = Chain(db)
    chain.hear("I live in Leeds.", taken_back)
    (item,) = chain.items()
    assert (item.status, item.active_hash) == (status, None)
    assert chain.rows(memory_audit_logs)[-1].operation == operation
    assert chain.recaller.recall(1, "Where do I live?").items == ()


def test_an_older_fact_becomes_history(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I've moved to Bristol.", day=30)
    chain.hear("I live in Leeds.", day=1)
    leeds, bristol = chain.items()
    assert (leeds.status, bristol.status) == ("superseded", "active")
    assert (leeds.valid_to, leeds.superseded_by) == (bristol.valid_from, bristol.id)
    assert bristol.version == 1
    assert chain.rows(memory_decisions)[-1].written == "HISTORY"


def test_shadow_decides_and_writes_as_legacy(db: Database) -> None:
    chain = Chain(db, "shadow")
    chain.hear("I live in Leeds.", "I've moved to Bristol.", "I live in Leeds.")
    assert len(chain.active()) == 2
    rows = chain.rows(memory_decisions)
    assert [(d.mode, d.operation, d.written) for d in rows] == [
        ("shadow", "ADD", "ADD"),
        ("shadow", "UPDATE", "ADD"),
        ("shadow", "NONE", "NONE"),
    ]


@pytest.mark.parametrize(
    ("mode", "left", "outcomes"),
    [
        ("decision", ["I live in Bristol"], ["facts", "facts", "nothing"]),
        ("shadow", ["I live in Leeds"], ["facts", "facts", "nothing"]),
        ("legacy", ["I live in Leeds"], ["facts", "nothing", "nothing"]),
    ],
)
def test_what_an_extractor_is_unsure_of_only_changes_what_is_known(
    db: Database, mode: str, left: list[str], outcomes: list[str]
) -> None:
    class Unsure:
        concurrency = 1

        def extract(self, message: Message) -> Extraction:
            text = message.source_text
            said = Candidate(memory_type="fact", content=text, confidence=0.7, slot="city" if "live" in text else None)
            if "Leeds" in text:
                return Extraction(facts=(said,))
            return Extraction(unsure=(dataclasses.replace(said, unsure=True),))

    chain = Chain(db, mode, extractor=Unsure())
    chain.hear("I live in Leeds", "I live in Bristol", "tea is tea")
    assert chain.active() == left
    assert [job.outcome for job in chain.extract_jobs()] == outcomes


def test_switched_off_means_not_read_at_all(db: Database) -> None:
    extractor = Fixed(Candidate(memory_type="fact", content="I live in Leeds"))
    chain = Chain(db, extractor=extractor)
    chain.say("I live in Leeds.")  # its event is written while memory is on
    govern.set_settings(db, 1, memory_enabled=False)
    chain.extract()
    assert (extractor.asked, chain.items()) == (0, [])
    (job,) = chain.extract_jobs()
    assert (job.status, job.outcome, json.loads(job.result)) == ("success", "nothing", {"reason": "SETTING_BLOCKED"})


@pytest.mark.parametrize("mode", ["legacy", "decision"])
def test_what_is_switched_off_while_the_model_thinks_is_not_written(db: Database, mode: str) -> None:
    class Slow(Fixed):
        def extract(self, message: Message) -> Extraction:
            govern.set_settings(db, 1, memory_enabled=False)
            return super().extract(message)

    chain = Chain(db, mode, extractor=Slow(Candidate(memory_type="fact", content="I live in Leeds")))
    chain.say("I live in Leeds.")
    chain.extract()
    assert chain.items() == []
    assert chain.rows(memory_audit_logs) == []


def test_sensitive_and_implicit_switches(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I was diagnosed with asthma last year.")
    assert chain.active() == []
    (job,) = chain.extract_jobs()
    assert (job.outcome, json.loads(job.result)["blocked"]) == ("facts", ["SENSITIVE_BLOCKED"])
    govern.set_settings(db, 1, sensitive_memory_enabled=True, implicit_memory_enabled=False)
    chain.hear("I was diagnosed with asthma last year.", "Please remember that I live in Leeds.")
    assert chain.active() == ["I live in Leeds"]


def test_an_edit_that_races_a_decision_wins_and_the_job_decides_again(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I live in Leeds.")
    (leeds,) = chain.items()
    chain.say("I've moved to Bristol.")
    prepare = chain.handler.prepare

    def racing(jobs: Any) -> Any:
        prepared = prepare(jobs)
        with db.begin() as conn:  # the user's edit commits between decision and write
            conn.execute(
                update(memory_items).where(memory_items.c.id == leeds.id).values(version=memory_items.c.version + 1)
            )
        chain.handler.prepare = prepare  # type: ignore[method-assign]
        return prepared

    chain.handler.prepare = racing  # type: ignore[method-assign]
    assert chain.extract().failed == 1
    assert chain.active() == ["I live in Leeds"]
    assert "changed meanwhile" in chain.extract_jobs()[-1].last_error
    clock_of(db).advance(60)
    chain.extract()
    assert chain.active() == ["I've moved to Bristol"]


@pytest.mark.parametrize(("fallback", "outcome"), [("none", "dead"), ("rules", "success")])
def test_a_failing_model_falls_back_at_the_last_attempt_only(db: Database, fallback: Any, outcome: str) -> None:
    extractor = Fixed(error=MalformedOutput("prose, no JSON"))
    chain = Chain(db, extractor=extractor, extract=ExtractSettings(fallback=fallback))
    chain.say("I live in Leeds.")
    chain.extract()
    for attempt in range(1, 6):
        assert (chain.extract_jobs()[0].status, extractor.asked, chain.items()) == ("failed", attempt, [])
        clock_of(db).advance(60)
        chain.extract()
    (job,) = chain.extract_jobs()
    assert (job.status, extractor.asked) == (outcome, 6)
    if fallback == "rules":
        told = json.loads(job.result)
        assert (told["fallback"], chain.active()) == ("rules", ["I live in Leeds"])
        assert "prose, no JSON" in told["fallback_reason"]
    else:
        assert "prose, no JSON" in job.last_error


def test_a_payload_that_cannot_be_used_is_dead_at_once(db: Database) -> None:
    from smartmem.jobs.queue import enqueue
    from tests.support.pipeline import job

    chain = Chain(db)
    with db.begin() as conn:
        enqueue(conn, [job(1, source_text=None)])
    chain.extract()
    (row,) = chain.extract_jobs()
    assert (row.status, row.retry_count) == ("dead", 1)
    assert "user_id: Field required" in row.last_error


def test_bad_candidates_are_told_and_the_good_ones_stand(db: Database) -> None:
    chain = Chain(
        db,
        extractor=Fixed(
            Candidate(memory_type="fact", content="I live in Leeds", confidence=float("nan")),
            Candidate(memory_type="rumour", content="x"),
            Candidate(memory_type="fact", content="x" * 2_000_000),
        ),
    )
    chain.say("anything")
    chain.extract()
    (job,) = chain.extract_jobs()
    told = json.loads(job.result)
    assert told["dropped"] == ["1:UNKNOWN_TYPE (rumour)"]
    assert told["notes"] == ["0:CONFIDENCE_INVALID (nan)", "2:CONTENT_CUT (2000000 characters)"]
    assert sorted(map(len, chain.active())) == [15, 1000]


def test_a_replayed_job_does_not_bring_back_what_the_user_deleted(db: Database) -> None:
    from smartmem.jobs.queue import enqueue
    from smartmem.jobs.types import NewJob

    chain = Chain(db)
    chain.hear("I live in Leeds.")
    (item,) = chain.items()
    (job,) = chain.extract_jobs()
    govern.delete_memory(db, 1, item.id)
    again = NewJob(
        user_id=1,
        job_type="extract",
        idempotency_key="replay",
        payload=json.loads(job.payload),
        trace_id="replay",
        order_key="u1",
        source_message_id=job.source_message_id,
    )
    with db.begin() as conn:
        enqueue(conn, [again])
    chain.extract()
    assert chain.active() == []
    chain.hear("I live in Leeds.")  # said again, in a new message: that is news
    assert chain.active() == ["I live in Leeds"]


def test_a_namespace_is_a_world_of_its_own(db: Database) -> None:
    from smartmem.jobs.queue import enqueue
    from smartmem.jobs.types import NewJob

    chain = Chain(db)
    chain.hear("I live in Leeds.")
    payload = {**json.loads(chain.extract_jobs()[0].payload), "namespace": "try", "extractor": {"name": "mock"}}
    replay = NewJob(
        user_id=1, job_type="extract", idempotency_key="try:1", payload=payload, trace_id="t", order_key="u1"
    )
    with db.begin() as conn:
        enqueue(conn, [replay])
    chain.run()
    assert [i.content for i in govern.list_memories(db, 1, namespace="try").items] == ["I live in Leeds."]
    assert [i.content for i in govern.list_memories(db, 1).items] == ["I live in Leeds"]
    assert [i.content for i in chain.recaller.recall(1, "Leeds", namespace="try").items] == ["I live in Leeds."]


def test_a_vector_store_that_is_down_blocks_no_decision(db: Database) -> None:
    class Down:
        dim = 8

        def __getattr__(self, name: str) -> Any:
            raise StoreUnavailable("the vector store is away")

    chain = Chain(db, vectors=True)
    chain.hear("I live in Leeds.")
    broken = Chain(db, vectors=True, store=Down())
    broken.say("I've moved to Bristol.")
    broken.extract()
    assert broken.active() == ["I've moved to Bristol"]
    assert "the vector store is away" in chain.rows(memory_decisions)[-1].fallback_reason


def test_transient_failures_are_retried(db: Database) -> None:
    extractor = Fixed(Candidate(memory_type="fact", content="I live in Leeds"), error=TransientModelError("429"))
    chain = Chain(db, extractor=extractor)
    chain.say("I live in Leeds.")
    assert chain.extract().failed == 1
    extractor.error = None
    clock_of(db).advance(60)
    chain.extract()
    assert chain.active() == ["I live in Leeds"]
