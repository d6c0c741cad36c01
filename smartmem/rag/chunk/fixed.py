"""Pieces of equal length."""

from __future__ import annotations

from smartmem.rag.chunk.pieces import Span, check_sizes, make_chunks, safe_end
from smartmem.rag.registry import register
from smartmem.rag.types import Chunk, Document


@register("chunker", "fixed")
class FixedChunker:
    """`size` characters, each piece beginning `overlap` before the last one's end; never inside a grapheme cluster
    (an emoji family, a letter with combining marks), so a piece may be a little shorter."""

    def __init__(self, size: int = 400, overlap: int = 80, context: bool = True) -> None:
        check_sizes("fixed", size, overlap)
        self._size, self._overlap, self._context = size, overlap, context

    def chunk(self, document: Document) -> list[Chunk]:
        text = document.text
        spans: list[Span] = []
        start = 0
        while start < len(text):
            end = safe_end(text, start, start + self._size)
            spans.append((start, end))
            if end >= len(text):
                break
            # A cluster longer than the step must not stop the walk.
            start = max(safe_end(text, start, end - self._overlap), start + 1) if self._overlap else end
        return make_chunks(document, spans, context=self._context)
