"""Several turns at a time."""

from __future__ import annotations

from smartmem.errors import ConfigError
from smartmem.rag.chunk.pieces import make_chunks
from smartmem.rag.dialogue import turns
from smartmem.rag.registry import register
from smartmem.rag.types import Chunk, Document


@register("chunker", "window")
class WindowChunker:
    """Chunks of `size` turns of a transcript, a new one every `step` turns; the speakers' names are inside."""

    def __init__(self, size: int = 3, step: int = 1, context: bool = True) -> None:
        if size < 1 or not 1 <= step <= size:
            raise ConfigError(f"chunker 'window': size = {size}, step = {step}; needs 1 <= step <= size")
        self._size, self._step, self._context = size, step, context

    def chunk(self, document: Document) -> list[Chunk]:
        text = document.text
        said = turns(text)
        if not said:
            return []
        # From the start of a turn's line (its speaker's name) to the end of the last turn's words.
        begins = [0, *(text.rfind("\n", 0, turn.start) + 1 for turn in said[1:])]
        begins = [max(begin, said[i - 1].end) if i else begin for i, begin in enumerate(begins)]
        last = max(len(said) - self._size, 0)
        firsts = list(range(0, last + 1, self._step))
        if firsts[-1] != last:
            firsts.append(last)
        spans = [(begins[i], said[min(i + self._size, len(said)) - 1].end) for i in firsts]
        return make_chunks(document, spans, context=self._context)
