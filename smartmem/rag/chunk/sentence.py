"""Whole sentences, as many as fit."""

from __future__ import annotations

from smartmem.rag.chunk.pieces import Span, check_sizes, make_chunks
from smartmem.rag.chunk.split import descend, merged, sentences
from smartmem.rag.registry import register
from smartmem.rag.types import Chunk, Document


def characters(span: Span) -> int:
    """The length of a span, as measures of size want it."""
    return span[1] - span[0]


@register("chunker", "sentence")
class SentenceChunker:
    """Sentences (zh and en) joined up to `size` characters; the next chunk repeats the last ones that fit into
    `overlap`. A sentence above `size` is cut at commas, then words."""

    def __init__(self, size: int = 400, overlap: int = 0, context: bool = True) -> None:
        check_sizes("sentence", size, overlap)
        self._size, self._overlap, self._context = size, overlap, context

    def chunk(self, document: Document) -> list[Chunk]:
        text = document.text
        whole = [p for s in sentences(text) for p in descend(text, s, self._size, characters, level=3)]
        return make_chunks(document, merged(whole, self._size, characters, self._overlap), context=self._context)


@register("chunker", "recursive")
class RecursiveChunker:
    """Paragraphs where they fit into `size` characters, else lines, sentences, clauses, words; small neighbours are
    joined again."""

    def __init__(self, size: int = 400, overlap: int = 0, context: bool = True) -> None:
        check_sizes("recursive", size, overlap)
        self._size, self._overlap, self._context = size, overlap, context

    def chunk(self, document: Document) -> list[Chunk]:
        text = document.text
        pieces = descend(text, (0, len(text)), self._size, characters) if text else []
        return make_chunks(document, merged(pieces, self._size, characters, self._overlap), context=self._context)
