"""From spans to chunks: what every chunker ends with."""

from __future__ import annotations

from collections.abc import Iterable

import regex

from smartmem.errors import ConfigError
from smartmem.rag.dialogue import date_of, labelled
from smartmem.rag.types import Chunk, Document

Span = tuple[int, int]
_GRAPHEME = regex.compile(r"\X")


def safe_end(text: str, start: int, limit: int) -> int:
    """The last grapheme boundary at or before `limit`, after `start` (itself a boundary).

    A single cluster that reaches past `limit` (piled-up combining marks) is cut at `limit`: a bound on the size of
    pieces matters more than a cluster that nobody can read.
    """
    if limit >= len(text):
        return len(text)
    end = start
    for cluster in _GRAPHEME.finditer(text, start, min(len(text), limit + 64)):
        if cluster.end() > limit:
            break
        end = cluster.end()
    return end if end > start else max(limit, start + 1)


def trimmed(text: str, span: Span) -> Span:
    """The span without its outer white space; empty (start == end) when nothing else is in it."""
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def make_chunks(document: Document, spans: Iterable[Span], *, context: bool = True) -> list[Chunk]:
    """Trim, drop blanks and number. `context`: title and date are indexed with the piece where there are any."""
    made: list[Chunk] = []
    date = date_of(document) if context else ""
    title = document.title if context else ""
    for span in spans:
        start, end = trimmed(document.text, span)
        if start == end:
            continue
        text = document.text[start:end]
        made.append(
            Chunk(
                id=f"{document.id}#{len(made)}",
                document_id=document.id,
                start=start,
                end=end,
                text=text,
                order=len(made),
                metadata=document.metadata,
                index_text=labelled(text, date=date, title=title) if date or title else None,
            )
        )
    return made


def check_sizes(name: str, size: int, overlap: int) -> None:
    """`ConfigError` unless 0 <= overlap < size."""
    if size < 1 or not 0 <= overlap < size:
        raise ConfigError(f"chunker {name!r}: size = {size}, overlap = {overlap}; needs 0 <= overlap < size")
