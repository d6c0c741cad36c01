"""What a job is, and what a handler of one job type must do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from sqlalchemy.engine import Connection

from smartmem.types import Json


class Job(NamedTuple):
    """A claimed job, as its handler sees it. `attempt` counts from 1."""

    id: int
    user_id: int
    conversation_id: str | None
    source_message_id: str | None
    source_event_id: str | None
    job_type: str
    idempotency_key: str
    payload: Json
    trace_id: str
    attempt: int
    max_retry: int
    created_at: dt.datetime


class NewJob(NamedTuple):
    """A job to enqueue. The idempotency key decides whether it is new; a second one with the same key is ignored."""

    user_id: int
    job_type: str
    idempotency_key: str
    payload: Json
    trace_id: str
    order_key: str
    conversation_id: str | None = None
    source_message_id: str | None = None
    source_event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What `prepare` made of a job, to be applied in the finishing transaction."""

    job: Job
    value: Any = None
    outcome: str | None = None
    result: Json = field(default_factory=dict)


class JobHandler(Protocol):
    """Works jobs of one type, in batches.

    `sequential`: True when a job must see the effects of the user's earlier jobs before it is prepared
    (decisions); the worker then gives at most one job of a user to each call.
    """

    job_type: str
    sequential: bool

    def prepare(self, jobs: Sequence[Job]) -> Sequence[Prepared | Exception]:
        """Do the slow part (models, vector store) outside any transaction: one answer a job, in order.

        An exception as an answer fails that job alone; `DataError` fails it for good.
        """
        ...

    def apply(self, conn: Connection, done: Sequence[Prepared]) -> Sequence[Prepared]:
        """Write the effects inside the transaction that marks the jobs `success`; set-based, SQL only.

        Returns what is to be recorded on the jobs (the same objects, or others with outcome and result filled in).
        """
        ...
