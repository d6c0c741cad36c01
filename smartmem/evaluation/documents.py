"""From a dataset to documents and back: which turns and sessions does a chunk cover?"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from smartmem.evaluation.datasets.records import Conversation, Dataset, Session, Turn, session_key, turn_key
from smartmem.evaluation.metrics import Level
from smartmem.rag.types import Chunk, Document
from smartmem.text import language

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Documents with the place of every turn in them: document id → (start, end, turn key, session key)."""

    documents: tuple[Document, ...]
    places: Mapping[str, Sequence[tuple[int, int, str, str]]]

    def members(self, chunks: Sequence[Chunk], level: Level) -> dict[str, tuple[str, ...]]:
        """chunk id → the units of `level` that share at least one character with it."""
        if level is Level.CHUNK:
            return {chunk.id: (chunk.id,) for chunk in chunks}
        out = {}
        for chunk in chunks:
            near = [p for p in self.places[chunk.document_id] if p[0] < chunk.end and chunk.start < p[1]]
            units = [turn if level is Level.TURN else session for _, _, turn, session in near]
            out[chunk.id] = tuple(dict.fromkeys(units))
        return out


def build_corpus(dataset: Dataset, shape: str) -> Corpus:
    """Documents of a dataset: one a turn, or one transcript (`Speaker: text` lines) a session; none of blank turns."""
    documents: list[Document] = []
    places: dict[str, list[tuple[int, int, str, str]]] = {}
    for talk in dataset.conversations:
        for session in talk.sessions:
            make = _turn_documents if shape == "turn" else _transcript
            for document, found in make(talk, session):
                documents.append(document)
                places[document.id] = found
    return Corpus(documents=tuple(documents), places=places)


_Placed = list[tuple[Document, list[tuple[int, int, str, str]]]]


def _turn_documents(talk: Conversation, session: Session) -> _Placed:
    out: _Placed = []
    home = session_key(talk.id, session.id)
    for number, turn in enumerate(session.turns):
        if not turn.text.strip():
            continue
        key = turn_key(talk.id, turn.id)
        metadata = {
            **_metadata(talk, session, turn.occurred_at or session.occurred_at, turn.text),
            "speaker": turn.speaker,
            "turn": number,
        }
        document = Document(id=key, text=turn.text, metadata=metadata, created_at=turn.occurred_at)
        out.append((document, [(0, len(turn.text), key, home)]))
    return out


def _transcript(talk: Conversation, session: Session) -> _Placed:
    lines, found, at = [], [], 0
    home = session_key(talk.id, session.id)
    for turn in session.turns:
        if not turn.text.strip():
            continue
        line = _line(turn)
        found.append((at, at + len(line), turn_key(talk.id, turn.id), home))
        lines.append(line)
        at += len(line) + 1
    if not lines:
        return []
    text = "\n".join(lines)
    metadata = _metadata(talk, session, session.occurred_at, text)
    return [(Document(id=home, text=text, metadata=metadata, created_at=session.occurred_at), found)]


def _line(turn: Turn) -> str:
    return f"{turn.speaker}: {turn.text}" if turn.speaker else turn.text


def _metadata(
    talk: Conversation, session: Session, at: dt.datetime | None, text: str
) -> dict[str, str | int | float | bool]:
    made: dict[str, str | int | float | bool] = {
        "user_id": talk.user_id,
        "conversation_id": talk.id,
        "session_id": session_key(talk.id, session.id),
    }
    if at is not None:
        made["date"] = spoken_date(at, language(text))
    return made


def spoken_date(at: dt.datetime, lang: str) -> str:
    """The day as people write it, for that is how questions ask for it: `8 May, 2023`, `2023年5月8日`."""
    if lang == "zh":
        return f"{at.year}年{at.month}月{at.day}日"
    return f"{at.day} {_MONTHS[at.month - 1]}, {at.year}"
