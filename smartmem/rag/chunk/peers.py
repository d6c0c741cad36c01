"""Chunkers of other projects under our protocol, to be compared with ours on the same evidence (extra `chunkers`)."""

from __future__ import annotations

from typing import Any

from smartmem.errors import needs
from smartmem.rag.chunk.pieces import check_sizes, make_chunks
from smartmem.rag.registry import register
from smartmem.rag.types import Chunk, Document

_ENDS = ["。", "！", "？"]


@register("chunker", "chonkie")
class ChonkieChunker:
    """chonkie's `RecursiveChunker` over characters, told of the ends of Chinese sentences, which it does not know."""

    def __init__(self, size: int = 400, context: bool = True) -> None:
        check_sizes("chonkie", size, 0)
        with needs("chunkers"):
            from chonkie import RecursiveChunker, RecursiveLevel, RecursiveRules

        levels: list[Any] = list(RecursiveRules().levels or ())
        at = next(place for place, level in enumerate(levels) if ". " in (level.delimiters or ()))
        levels[at] = RecursiveLevel(delimiters=[*levels[at].delimiters, *_ENDS])
        self._chunker: Any = RecursiveChunker(
            tokenizer="character", chunk_size=size, rules=RecursiveRules(levels=levels), min_characters_per_chunk=1
        )
        self._context = context

    def chunk(self, document: Document) -> list[Chunk]:
        if not document.text.strip():
            return []
        found = self._chunker.chunk(document.text)
        return make_chunks(document, [(piece.start_index, piece.end_index) for piece in found], context=self._context)


@register("chunker", "semchunk")
class SemchunkChunker:
    """semchunk over characters: it splits at the strongest border that a piece has, white space before punctuation."""

    def __init__(self, size: int = 400, overlap: int = 0, context: bool = True) -> None:
        check_sizes("semchunk", size, overlap)
        with needs("chunkers"):
            import semchunk

        self._chunker: Any = semchunk.chunkerify(len, size, memoize=False)  # type: ignore[attr-defined]
        self._overlap, self._context = overlap, context

    def chunk(self, document: Document) -> list[Chunk]:
        if not document.text.strip():
            return []
        _, spans = self._chunker(document.text, offsets=True, overlap=self._overlap or None)
        return make_chunks(document, spans, context=self._context)
