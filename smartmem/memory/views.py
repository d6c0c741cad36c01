"""Memories as callers see them: records, never rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, fields
from html import escape
from typing import TYPE_CHECKING, Any

from smartmem.errors import needs

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryItem:
    """One memory with its whole state. `version` is what an edit has to name."""

    id: str
    namespace: str
    user_id: int
    assistant_id: str | None
    conversation_id: str | None
    run_id: str | None
    memory_type: str
    title: str
    content: str
    content_hash: str
    slot: str | None
    language: str
    confidence: float
    importance: float
    sensitivity_level: int
    is_explicit: bool
    status: str
    version: int
    vector_status: str
    vector_fingerprint: str | None
    valid_from: dt.datetime
    valid_to: dt.datetime | None
    superseded_by: str | None
    ttl_at: dt.datetime | None
    source_message_id: str | None
    trace_id: str
    last_access_at: dt.datetime | None
    created_at: dt.datetime
    updated_at: dt.datetime

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> MemoryItem:
        """From a row of memory_items."""
        return cls(**{name: row[name] for name in _NAMES})

    def to_json(self) -> dict[str, Any]:
        """Plain values, times as ISO 8601."""
        made = {name: getattr(self, name) for name in _NAMES}
        return {k: v.isoformat() if isinstance(v, dt.datetime) else v for k, v in made.items()}

    def _repr_html_(self) -> str:
        said = f"{self.memory_type}, {self.status}, since {self.valid_from:%Y-%m-%d}, version {self.version}"
        return f"<p><b>{escape(self.content)}</b><br>{escape(said)}</p>"


_NAMES = tuple(field.name for field in fields(MemoryItem))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a list. `total` counts all that pass the filters."""

    items: tuple[MemoryItem, ...]
    total: int
    limit: int
    offset: int

    @property
    def next_offset(self) -> int | None:
        """Where the next page begins, None when this is the last one."""
        end = self.offset + len(self.items)
        return end if end < self.total else None

    def to_frame(self) -> pd.DataFrame:
        """One row a memory, one column a field of `MemoryItem`."""
        with needs("eval"):
            import pandas as pd

        return pd.DataFrame([{name: getattr(i, name) for name in _NAMES} for i in self.items], columns=list(_NAMES))

    def _repr_html_(self) -> str:
        shown = ["id", "memory_type", "content", "status", "valid_from", "valid_to"]
        table: str = self.to_frame()[shown].to_html(index=False)
        return f"<p>{len(self.items)} of {self.total} memories</p>{table}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What `forget` emptied, by place: numbers of rows whose text is gone."""

    memory_id: str
    items: int = 0
    audit_rows: int = 0
    decisions: int = 0
    jobs: int = 0
    events: int = 0
    vectors: int = 0
    # The chat history is the user's own record and stays; these messages still say it.
    messages_kept: tuple[str, ...] = ()
    vector_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """Memories of one user that say the same; `keep` stays."""

    user_id: int
    keep: str
    drop: tuple[str, ...]
    content: str
