"""Job handlers for tests: one whose every step a test decides, and one that writes a fact and its audit row a job."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import insert
from sqlalchemy.engine import Connection

from smartmem.db.engine import Database
from smartmem.db.tables import memory_audit_logs, memory_items
from smartmem.jobs.types import Job, Prepared
from smartmem.text import sha256


class ScriptedHandler:
    """Answers each job with what `answer` returns or raises; remembers in which calls the jobs came."""

    def __init__(
        self,
        answer: Callable[[Job], Any] = lambda job: None,
        *,
        job_type: str = "extract",
        sequential: bool = False,
        effect: Callable[[Connection, Sequence[Prepared]], None] = lambda conn, done: None,
    ) -> None:
        self.job_type, self.sequential = job_type, sequential
        self._answer, self._effect = answer, effect
        self.prepared: list[list[int]] = []
        self.applied: list[list[int]] = []

    def prepare(self, jobs: Sequence[Job]) -> Sequence[Prepared | Exception]:
        self.prepared.append([job.id for job in jobs])
        answers: list[Prepared | Exception] = []
        for job in jobs:
            value = self._answer(job)
            answers.append(value if isinstance(value, Exception) else Prepared(job=job, value=value, outcome="facts"))
        return answers

    def apply(self, conn: Connection, done: Sequence[Prepared]) -> Sequence[Prepared]:
        self._effect(conn, done)
        self.applied.append([one.job.id for one in done])
        return done


class FactHandler:
    """One memory item and one audit row for each job, without any guard of its own against doing a job twice: the
    item's id comes from the call, so that a job applied twice shows as two items."""

    job_type = "extract"
    sequential = False

    def prepare(self, jobs: Sequence[Job]) -> Sequence[Prepared | Exception]:
        return [self.one(job) for job in jobs]

    def one(self, job: Job) -> Prepared | Exception:
        return Prepared(job=job, value=job.payload["source_text"], outcome="facts", result={"facts": 1})

    def apply(self, conn: Connection, done: Sequence[Prepared]) -> Sequence[Prepared]:
        now = Database.of(conn).now()
        items = [_item(one, now) for one in done]
        conn.execute(insert(memory_items), items)
        conn.execute(
            insert(memory_audit_logs),
            [
                {
                    "memory_id": item["id"],
                    "item_version": 1,
                    "user_id": item["user_id"],
                    "operation": "create",
                    "operator": "system",
                    "reason": "test",
                    "job_id": item["source_job_id"],
                    "trace_id": item["trace_id"],
                    "created_at": now,
                }
                for item in items
            ],
        )
        return done


def _item(done: Prepared, now: Any) -> dict[str, Any]:
    job = done.job
    id_ = str(uuid.uuid4())
    return {
        "id": id_,
        "namespace": "default",
        "user_id": job.user_id,
        "conversation_id": job.conversation_id,
        "memory_type": "fact",
        "title": "",
        "content": done.value,
        "content_hash": sha256(done.value),
        "active_hash": sha256(id_),
        "language": "en",
        "confidence": 0.6,
        "importance": 0.6,
        "sensitivity_level": 0,
        "is_explicit": False,
        "status": "active",
        "version": 1,
        "vector_status": "none",
        "valid_from": now,
        "source_message_id": job.source_message_id,
        "source_event_id": job.source_event_id,
        "source_job_id": job.id,
        "trace_id": job.trace_id,
        "created_at": now,
        "updated_at": now,
    }
