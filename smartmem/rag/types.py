"""Records of the RAG core. They know no domain: chat, memory and web search are corpora on top of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from smartmem.frames import Table, Tabular
from smartmem.types import Scalar

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ["rank", "score", "document_id", "chunk_id", "text"]
Metadata = Mapping[str, Scalar]
Op = Literal["eq", "in", "ge", "gt", "le", "lt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A source text. `metadata` values are scalars, so that every store can filter by them."""

    id: str
    text: str
    title: str = ""
    metadata: Metadata = field(default_factory=dict)
    created_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of one document: `document.text[start:end] == text` (code points, half-open).

    `index_text` is what embedders and BM25 see when context (speaker, date, title) is to be indexed
    with the piece; None means `text` itself.
    """

    id: str
    document_id: str
    start: int
    end: int
    text: str
    order: int
    metadata: Metadata = field(default_factory=dict)
    index_text: str | None = None

    @property
    def searchable(self) -> str:
        """The text to index: `index_text` where there is one, else `text`."""
        return self.text if self.index_text is None else self.index_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One test on a metadata field. A chunk without the field never passes."""

    field: str
    op: Op
    value: Scalar | tuple[Scalar, ...]

    def matches(self, metadata: Metadata) -> bool:
        """Whether `metadata` passes; values of different kinds (3 and "3") are different."""
        if self.field not in metadata:
            return False
        have = metadata[self.field]
        if isinstance(self.value, tuple):
            return any(_same(have, v) for v in self.value)
        if self.op == "eq":
            return _same(have, self.value)
        if isinstance(have, str) is not isinstance(self.value, str):
            return False
        return {
            "ge": have >= self.value,  # type: ignore[operator]  # both str or both numbers, see above
            "gt": have > self.value,  # type: ignore[operator]
            "le": have <= self.value,  # type: ignore[operator]
            "lt": have < self.value,  # type: ignore[operator]
        }[self.op]


def _same(a: Scalar, b: Scalar) -> bool:
    return a == b and isinstance(a, str) is isinstance(b, str) and isinstance(a, bool) is isinstance(b, bool)


@dataclass(frozen=True, slots=True)
class Filter:
    """A conjunction of conditions; the empty filter passes everything.

    >>> Filter.where(user_id=7, type=("fact", "preference")).matches({"user_id": 7, "type": "fact"})
    True
    """

    conditions: tuple[Condition, ...] = ()

    @classmethod
    def where(cls, **equals: Scalar | Sequence[Scalar]) -> Filter:
        """Equality on each named field; a sequence (not a string) means 'one of'."""
        made = []
        for name, value in equals.items():
            if isinstance(value, str | int | float | bool):
                made.append(Condition(field=name, op="eq", value=value))
            else:
                made.append(Condition(field=name, op="in", value=tuple(value)))
        return cls(tuple(made))

    def __and__(self, other: Filter) -> Filter:
        return Filter(self.conditions + other.conditions)

    def matches(self, metadata: Metadata) -> bool:
        """Whether `metadata` passes every condition."""
        return all(c.matches(metadata) for c in self.conditions)

    def fields(self) -> set[str]:
        """The fields that are tested; a corpus looks here for its obligatory ones."""
        return {c.field for c in self.conditions}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked. `at` is the moment of asking, for date-aware retrieval and recency."""

    text: str
    id: str = ""
    filter: Filter = field(default_factory=Filter)
    at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk with its score; larger is better. `reasons` keeps what each stage did to it."""

    chunk: Chunk
    score: float
    reasons: Mapping[str, float] = field(default_factory=dict)

    def with_score(self, score: float, **reasons: float) -> Hit:
        """The same chunk under a new score, with the stage's figures added to `reasons`."""
        return replace(self, score=score, reasons={**self.reasons, **reasons})


def ranked(hits: Sequence[Hit], k: int | None = None) -> list[Hit]:
    """Order by (-score, chunk id), the tie rule of the whole house, and keep the first `k`."""
    return sorted(hits, key=lambda h: (-h.score, h.chunk.id))[:k]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What one stage of a retrieval did: its time and, in order, the candidates that it handed on."""

    name: str
    ms: float
    hits: tuple[Hit, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval(Tabular):
    """The answer to one query. `fallback_reason` is set when a stage failed and the order before it was kept."""

    query: Query
    hits: tuple[Hit, ...]
    ms: float
    fallback_reason: str | None = None
    stages: tuple[Stage, ...] = ()

    _hidden: ClassVar[tuple[str, ...]] = ("chunk_id",)

    def to_frame(self) -> pd.DataFrame:
        """One row a hit: rank (from 1), score, document_id, chunk_id, text, and the chunk's metadata."""
        frame = super(Retrieval, self).to_frame()
        for name in sorted({key for hit in self.hits for key in hit.chunk.metadata} - set(_COLUMNS)):
            frame[name] = [hit.chunk.metadata.get(name) for hit in self.hits]
        return frame

    def _table(self) -> Table:
        rows = [
            (rank, hit.score, hit.chunk.document_id, hit.chunk.id, hit.chunk.text)
            for rank, hit in enumerate(self.hits, start=1)
        ]
        return _COLUMNS, rows

    def _above(self) -> list[str]:
        said = f"{self.query.text} ({len(self.hits)} hits, {self.ms:.0f} ms)"
        return [said, self.fallback_reason] if self.fallback_reason else [said]
