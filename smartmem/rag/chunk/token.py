"""Pieces counted in a model's tokens."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from smartmem.errors import MissingExtra
from smartmem.rag.chunk.pieces import Span, check_sizes, make_chunks
from smartmem.rag.chunk.split import descend, merged
from smartmem.rag.models import resolve
from smartmem.rag.registry import register
from smartmem.rag.types import Chunk, Document


@register("chunker", "token")
class TokenChunker:
    """Sentences joined up to `size` tokens of `model` (a name of models.toml), so that nothing is cut off when that
    model reads a chunk. Title and date, where `context` adds them, come on top."""

    def __init__(self, model: str = "bge-small-en", size: int = 128, overlap: int = 0, context: bool = True) -> None:
        check_sizes("token", size, overlap)
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise MissingExtra("tokenizers", "onnx") from None
        self._tokenizer: Any = Tokenizer.from_file(str(resolve(model).path("tokenizer.json")))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._size, self._overlap, self._context = size, overlap, context

    def chunk(self, document: Document) -> list[Chunk]:
        text = document.text
        if not text.strip():
            return []
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        starts = [start for start, _ in encoded.offsets]

        def tokens(span: Span) -> int:
            return bisect_left(starts, span[1]) - bisect_left(starts, span[0])

        pieces = descend(text, (0, len(text)), self._size, tokens)
        return make_chunks(document, merged(pieces, self._size, tokens, self._overlap), context=self._context)
