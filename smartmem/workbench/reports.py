"""What the workbench answers: small records that print themselves and become frames."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from smartmem.errors import needs
from smartmem.frames import Table, Tabular

if TYPE_CHECKING:
    import pandas as pd

    from smartmem.rag.types import Hit


class _Report(Tabular):
    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport(_Report):
    """What an import did. `present` messages had been there before; `refused` says why, for each that was not taken."""

    file: str
    format: str
    read: int
    conversations: int
    added: int
    present: int
    events: int
    refused: tuple[str, ...] = ()
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReport(_Report):
    """What relays and workers did until nothing was left. `failed` counts attempts, each of which was retried.

    `away`: why some memories have no vector yet (the store or the embedder cannot be reached), or ''.
    """

    events: int
    success: int
    failed: int
    dead: int
    away: str = ""
    seconds: float

    @property
    def jobs_per_second(self) -> float:
        """Finished jobs over wall time."""
        return self.success / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(_Report):
    """States and counts of everything that waits, works or is done. Ages in seconds."""

    database: str
    messages: int
    events: Mapping[str, int]
    jobs: Mapping[str, int]
    memories: Mapping[str, int]
    vectors: Mapping[str, int]
    unfinished: int
    oldest_age_s: float | None
    dead_events: int
    dead_jobs: int

    def rows(self) -> list[tuple[str, str, int]]:
        """(what, state, count) for a table."""
        made = [("messages", "stored", self.messages)]
        for what in ("events", "jobs", "memories", "vectors"):
            made += [(what, state, count) for state, count in sorted(getattr(self, what).items())]
        return made

    def summary(self) -> str:
        """One line for people."""
        waiting = f"{self.unfinished} unfinished"
        if self.oldest_age_s is not None:
            waiting += f", the oldest for {self.oldest_age_s:.0f} s"
        return f"{self.database}: {waiting}; dead letters: {self.dead_events} events, {self.dead_jobs} jobs"

    def _table(self) -> Table:
        return ("what", "state", "count"), self.rows()

    def _above(self) -> list[str]:
        return [self.summary()]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnHit:
    """A chat turn that a search found."""

    message_id: str
    conversation_id: str
    speaker: str
    text: str
    occurred_at: str
    score: float

    @classmethod
    def of(cls, hit: Hit) -> TurnHit:
        """From a hit whose chunk was made of a stored message."""
        meta = hit.chunk.metadata
        return cls(
            message_id=hit.chunk.document_id,
            conversation_id=str(meta["conversation_id"]),
            speaker=str(meta["speaker"]),
            text=hit.chunk.text,
            occurred_at=str(meta["occurred_at"]),
            score=hit.score,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnHits(Tabular):
    """Chat turns by (-score, id). `fallback_reason` says why a stage was left out."""

    query: str
    hits: tuple[TurnHit, ...]
    ms: float
    fallback_reason: str | None = None

    _hidden: ClassVar[tuple[str, ...]] = ("message_id",)

    def _table(self) -> Table:
        columns = [field.name for field in dataclasses.fields(TurnHit)]
        return columns, [[getattr(hit, name) for name in columns] for hit in self.hits]

    def _above(self) -> list[str]:
        said = f"{self.query} ({len(self.hits)} turns, {self.ms:.0f} ms)"
        return [said, self.fallback_reason] if self.fallback_reason else [said]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHistory(Tabular):
    """State changes of jobs, in the order in which they were written."""

    rows: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    def to_frame(self) -> pd.DataFrame:
        """Columns job_id, job_type, user_id, from_status, to_status, at (UTC), attempt, worker_id, reason."""
        with needs("eval"):
            import pandas as pd

        columns = ["job_id", "job_type", "user_id", "from_status", "to_status", "at", "attempt", "worker_id", "reason"]
        frame = pd.DataFrame([dict(row) for row in self.rows], columns=columns)
        return frame.assign(at=pd.to_datetime(frame["at"], utc=True))

    def changes(self) -> pd.DataFrame:
        """How often each change of state happened: columns job_type, change (`pending → processing`), reason, times.

        Of a reason only what stands before the first colon, for what follows it differs from job to job.
        """
        return super(JobHistory, self).to_frame()

    def _table(self) -> Table:
        counted = Counter(
            (
                str(row["job_type"]),
                f"{row['from_status'] or '(new)'} → {row['to_status']}",
                str(row["reason"] or "").partition(":")[0],
            )
            for row in self.rows
        )
        return ("job_type", "change", "reason", "times"), [(*key, counted[key]) for key in sorted(counted)]

    def _above(self) -> list[str]:
        return [f"{len(self.rows)} changes of state"]


def iso(value: dt.datetime | None) -> str | None:
    """A time as people write it, to the minute, in UTC."""
    return None if value is None else value.strftime("%Y-%m-%d %H:%M")
