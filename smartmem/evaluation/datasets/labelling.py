"""Make a labelled set of a user's own chats: ask, look at suggestions, say which turns answer, save.

labels = LabelSet(conversations)                          # e.g. [p.conversation for p in parse("chats.jsonl", "jsonl")]
for turn in labels.suggest("chat-1", "Which food must be avoided?"):
    ...                                                   # show turn.key, turn.text; the eye decides
labels.add("chat-1", "Which food must be avoided?", relevant=["m1"], category="constraint")
labels.save("labelled.jsonl")                             # load_dataset("jsonl", "labelled.jsonl")

Suggestions come from several retrievers in turn, not from one: gold that only BM25 could propose would favour BM25.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smartmem.chat.importers import Conversation
from smartmem.errors import ConfigError, DataError
from smartmem.evaluation.datasets.records import Dataset
from smartmem.evaluation.datasets.template import write_lines
from smartmem.evaluation.documents import build_corpus
from smartmem.rag.pipeline import Pipeline
from smartmem.rag.types import Filter

DEFAULT_PIPELINES: tuple[Mapping[str, Any], ...] = (
    {"chunker": "turn", "retriever": "bm25"},
    {"chunker": "turn", "retriever": {"name": "neighbours", "base": "bm25", "weight": 0.5}},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A turn that may answer. `found_by` counts from 1 which pipelines proposed it."""

    turn_id: str
    session_id: str
    speaker: str
    text: str
    found_by: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One query with its gold turns; none means that the conversation has no answer."""

    query_id: str
    conversation_id: str
    text: str
    relevant: tuple[str, ...]
    category: str
    answer: str | None


class LabelSet:
    """Queries and gold for some conversations, kept in memory until saved."""

    def __init__(
        self, conversations: Sequence[Conversation], pipelines: Sequence[Mapping[str, Any]] = DEFAULT_PIPELINES
    ) -> None:
        if not conversations:
            raise DataError("there is no conversation to label; read one with chat.importers.parse")
        self._talks = {talk.id: talk for talk in conversations}
        self._labels: dict[str, Label] = {}
        dataset = Dataset(name="labels", conversations=tuple(conversations), queries=(), sha256="")
        documents = build_corpus(dataset, "turn").documents
        self._pipelines = [Pipeline.from_spec(spec) for spec in pipelines]
        for pipeline in self._pipelines:
            pipeline.ingest(documents)

    @property
    def labels(self) -> tuple[Label, ...]:
        return tuple(self._labels.values())

    def suggest(self, conversation_id: str, text: str, k: int = 10) -> list[Suggestion]:
        """At most `k` turns, taken from the pipelines in turn, best first; turns already found are not repeated."""
        talk = self._talk(conversation_id)
        scope = Filter.where(user_id=talk.user_id, conversation_id=talk.id)
        answers = [
            [hit.chunk.document_id for hit in pipeline.retrieve(text, k=k, filter=scope).hits]
            for pipeline in self._pipelines
        ]
        found: dict[str, list[int]] = {}
        for row in itertools.zip_longest(*answers):
            for number, key in enumerate(row, start=1):
                if key is not None:
                    found.setdefault(key, []).append(number)
        turns = {
            f"{talk.id}/{turn.id}": Suggestion(
                turn_id=turn.id, session_id=session.id, speaker=turn.speaker, text=turn.text, found_by=()
            )
            for session in talk.sessions
            for turn in session.turns
        }
        return [replace(turns[key], found_by=tuple(sorted(by))) for key, by in list(found.items())[:k]]

    def add(
        self,
        conversation_id: str,
        text: str,
        relevant: Iterable[str],
        *,
        category: str = "all",
        answer: str | None = None,
        query_id: str | None = None,
    ) -> Label:
        """Keep a query. A query id given again replaces the label; `ConfigError` for a turn that does not exist."""
        talk = self._talk(conversation_id)
        known = {turn.id for turn in talk.turns()}
        chosen = tuple(dict.fromkeys(relevant))
        for turn in chosen:
            if turn not in known:
                raise ConfigError(f"conversation {talk.id!r} has no turn {turn!r}; ids stand in what `suggest` returns")
        if not text.strip():
            raise ConfigError("the query is blank; write what a user would ask")
        name = query_id or f"q{len(self._labels) + 1:03d}"
        label = Label(
            query_id=name, conversation_id=talk.id, text=text, relevant=chosen, category=category, answer=answer
        )
        self._labels[name] = label
        return label

    def save(self, path: str | Path) -> Path:
        """Messages and queries in our JSONL; an existing file is not overwritten."""
        if not self._labels:
            raise DataError("there is no label to save yet; add one")
        return write_lines(path, itertools.chain(self._messages(), self._queries()))

    def _messages(self) -> Iterable[Mapping[str, Any]]:
        for talk in self._talks.values():
            for session in talk.sessions:
                for turn in session.turns:
                    at = turn.occurred_at or session.occurred_at
                    if at is None:
                        raise DataError(f"conversation {talk.id!r}, turn {turn.id!r} has no time; our format needs one")
                    yield {
                        "conversation_id": talk.id,
                        "user_id": talk.user_id,
                        "session_id": session.id,
                        "client_message_id": turn.id,
                        "role": str(turn.role),
                        "speaker": turn.speaker,
                        "content": turn.text,
                        "occurred_at": at.isoformat(),
                    }

    def _queries(self) -> Iterable[Mapping[str, Any]]:
        for label in self._labels.values():
            yield {
                "kind": "query",
                "query_id": label.query_id,
                "conversation_id": label.conversation_id,
                "text": label.text,
                "relevant": list(label.relevant),
                "category": label.category,
                "answer": label.answer,
            }

    def _talk(self, conversation_id: str) -> Conversation:
        talk = self._talks.get(conversation_id)
        if talk is None:
            raise ConfigError(
                f"no conversation {conversation_id!r} is being labelled; there are: {', '.join(self._talks)}"
            )
        return talk
