"""What the workbench answers: small records that print themselves and become frames."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from smartmem.errors import needs

if TYPE_CHECKING:
    import pandas as pd

    from smartmem.rag.types import Hit


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    def to_frame(self) -> pd.DataFrame:
        """One row, one column a field."""
        with needs("eval"):
            import pandas as pd

        return pd.DataFrame([{name: _cell(value) for name, value in self.to_dict().items()}])

    def _repr_html_(self) -> str:
        html: str = self.to_frame().to_html(index=False)
        return html


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

    def to_frame(self) -> pd.DataFrame:
        """The rows as a frame."""
        with needs("eval"):
            import pandas as pd

        return pd.DataFrame(self.rows(), columns=["what", "state", "count"])

    def _repr_html_(self) -> str:
        html: str = self.to_frame().to_html(index=False)
        return f"<p>{escape(self.summary())}</p>{html}"


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
class TurnHits:
    """Chat turns by (-score, id). `fallback_reason` says why a stage was left out."""

    query: str
    hits: tuple[TurnHit, ...]
    ms: float
    fallback_reason: str | None = None

    def to_frame(self) -> pd.DataFrame:
        """One row a turn."""
        with needs("eval"):
            import pandas as pd

        columns = [field.name for field in dataclasses.fields(TurnHit)]
        return pd.DataFrame([dataclasses.asdict(hit) for hit in self.hits], columns=columns)

    def _repr_html_(self) -> str:
        html: str = self.to_frame().drop(columns="message_id").to_html(index=False)
        note = f"<p>{escape(self.fallback_reason)}</p>" if self.fallback_reason else ""
        return f"<p>{escape(self.query)} ({len(self.hits)} turns, {self.ms:.0f} ms)</p>{note}{html}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHistory:
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
        frame = self.to_frame()
        frame["change"] = frame["from_status"].fillna("(new)") + " → " + frame["to_status"]
        frame["reason"] = frame["reason"].fillna("").astype(str).str.split(":").str[0]
        counted = frame.groupby(["job_type", "change", "reason"], sort=True)
        return counted.size().reset_index(name="times")

    def _repr_html_(self) -> str:
        html: str = self.changes().to_html(index=False)
        return f"<p>{len(self.rows)} changes of state</p>{html}"


def iso(value: dt.datetime | None) -> str | None:
    """A time as people write it, to the minute, in UTC."""
    return None if value is None else value.strftime("%Y-%m-%d %H:%M")


def _cell(value: Any) -> Any:
    """A value as one cell of a table: what holds several is written as one text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
