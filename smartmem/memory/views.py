"""Memories as callers see them: records, never rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, fields
from html import escape
from typing import Any, ClassVar

from smartmem.frames import Table, Tabular


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryItem(Tabular):
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

    def _repr_html_(self) -> str:  # a memory by itself is read as words
        said = f"{self.memory_type}, {self.status}, since {self.valid_from:%Y-%m-%d}, version {self.version}"
        return f"<p><b>{escape(self.content)}</b><br>{escape(said)}</p>"


_NAMES = tuple(field.name for field in fields(MemoryItem))
_READ = {"id", "memory_type", "content", "status", "valid_from", "valid_to"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Tabular):
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

    _hidden: ClassVar[tuple[str, ...]] = tuple(name for name in _NAMES if name not in _READ)

    def _table(self) -> Table:
        """One row a memory, one column a field of `MemoryItem`."""
        return _NAMES, [[getattr(item, name) for name in _NAMES] for item in self.items]

    def _above(self) -> list[str]:
        return [f"{len(self.items)} of {self.total} memories"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten(Tabular):
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
class Duplicates(Tabular):
    """Memories of one user that say the same; `keep` stays."""

    user_id: int
    keep: str
    drop: tuple[str, ...]
    content: str
