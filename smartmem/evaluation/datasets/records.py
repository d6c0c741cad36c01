"""One model for every benchmark: conversations of turns, and queries that name the turns which answer them."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from smartmem.chat.importers import Conversation, Session, Turn
from smartmem.errors import BadRecord

__all__ = ["Conversation", "Dataset", "EvalQuery", "Note", "Session", "SpanRef", "Turn", "session_key", "turn_key"]


def turn_key(conversation_id: str, turn_id: str) -> str:
    """The id of a turn among all turns of a dataset. Turn ids alone repeat from one conversation to the next."""
    return f"{conversation_id}/{turn_id}"


def session_key(conversation_id: str, session_id: str) -> str:
    """The id of a session among all sessions of a dataset."""
    return f"{conversation_id}/{session_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRef:
    """Half-open [start, end) in code points of one turn's text (`turn` is a turn key)."""

    turn: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalQuery:
    """A question with its gold.

    `relevant` holds turn keys, `relevant_sessions` session keys. A query without gold is ineligible: `why_ineligible`
    says why, and it is counted, never dropped. `cluster` is what the statistics resample (conversations, usually).
    """

    id: str
    text: str
    conversation_id: str
    relevant: tuple[str, ...] = ()
    relevant_sessions: tuple[str, ...] = ()
    category: str = "all"
    answer: str | None = None
    at: dt.datetime | None = None
    spans: tuple[SpanRef, ...] = ()
    cluster: str = ""
    language: str = ""
    no_answer: bool = False
    why_ineligible: str = ""

    @property
    def group(self) -> str:
        """The cluster for resampling: the conversation where the loader names no other."""
        return self.cluster or self.conversation_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One thing that a loader changed or could not use. Values are ids or short fields, never a message's text."""

    kind: Literal["repaired", "refused", "corrected"]
    record: str
    field: str
    value: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A benchmark in memory. `sha256` covers the files it was read from."""

    name: str
    conversations: tuple[Conversation, ...]
    queries: tuple[EvalQuery, ...]
    sha256: str
    notes: tuple[Note, ...] = ()
    licence: str = ""
    hash_checked: bool = False
    text_in_reports: bool = False
    files: Mapping[str, str] = field(default_factory=dict)

    def turns(self) -> Iterator[tuple[str, Session, Turn]]:
        """(turn key, session, turn) over all conversations, in order."""
        for conversation in self.conversations:
            for session in conversation.sessions:
                for turn in session.turns:
                    yield turn_key(conversation.id, turn.id), session, turn

    def session_of(self) -> dict[str, str]:
        """turn key → session key."""
        return {
            turn_key(c.id, turn.id): session_key(c.id, session.id)
            for c in self.conversations
            for session in c.sessions
            for turn in session.turns
        }

    def counts(self) -> dict[str, int]:
        """What was read, repaired and refused. `ineligible` queries have no gold turn."""
        kinds = Counter(note.kind for note in self.notes)
        eligible = sum(1 for query in self.queries if query.relevant)
        return {
            "conversations": len(self.conversations),
            "sessions": sum(len(c.sessions) for c in self.conversations),
            "turns": sum(len(s.turns) for c in self.conversations for s in c.sessions),
            "queries": len(self.queries),
            "eligible": eligible,
            "ineligible": len(self.queries) - eligible,
            "repaired": kinds["repaired"],
            "refused": kinds["refused"],
            "corrected": kinds["corrected"],
        }


def require_unique_ids(
    files: Sequence[Path], conversations: Sequence[Conversation], queries: Sequence[EvalQuery]
) -> None:
    """`BadRecord` when two conversations or two questions share an id: they would answer for each other."""
    for kind, ids in (("conversation", [talk.id for talk in conversations]), ("question", [q.id for q in queries])):
        first: dict[str, int] = {}
        for number, name in enumerate(ids, start=1):
            if first.setdefault(name, number) != number:
                where = ", ".join(map(str, files))
                raise BadRecord(
                    f"{where}: {kind} {number} has the id {name!r}, which {kind} {first[name]} has already; "
                    "give each its own"
                )
