"""Cut where the subject changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from smartmem.errors import ConfigError
from smartmem.rag.chunk.pieces import Span, check_sizes, make_chunks
from smartmem.rag.chunk.sentence import characters
from smartmem.rag.chunk.split import descend, sentences
from smartmem.rag.protocols import Embedder
from smartmem.rag.registry import create, register
from smartmem.rag.types import Chunk, Document


@register("chunker", "semantic")
class SemanticChunker:
    """Sentences joined while they speak of the same: a new chunk begins where the cosine between the `group` sentences
    before and after a border is among the lowest `quantile` of the document's, or where `size` would be passed.
    `embedder` is the pipeline's, unless named here."""

    def __init__(
        self,
        embedder: str | Mapping[str, Any] | Embedder | None = None,
        size: int = 800,
        quantile: float = 0.2,
        group: int = 2,
        context: bool = True,
    ) -> None:
        check_sizes("semantic", size, 0)
        if embedder is None:
            raise ConfigError("chunker 'semantic' needs an embedder: name one here or in the pipeline's specification")
        if not 0 <= quantile <= 1 or group < 1:
            raise ConfigError(f"chunker 'semantic': quantile = {quantile}, group = {group}; needs 0 … 1 and >= 1")
        self.embedder: Embedder = create("embedder", embedder) if isinstance(embedder, str | Mapping) else embedder
        self._size, self._quantile, self._group, self._context = size, quantile, group, context

    def chunk(self, document: Document) -> list[Chunk]:
        text = document.text
        whole = [p for s in sentences(text) for p in descend(text, s, self._size, characters, level=3)]
        whole = [(start, end) for start, end in whole if text[start:end].strip()]
        borders = self._borders(text, whole)
        spans: list[Span] = []
        for i, (start, end) in enumerate(whole):
            if not spans or i in borders or end - spans[-1][0] > self._size:
                spans.append((start, end))
            else:
                spans[-1] = (spans[-1][0], end)
        return make_chunks(document, spans, context=self._context)

    def _borders(self, text: str, spans: list[Span]) -> set[int]:
        """Positions in `spans` before which the subject changes."""
        if len(spans) < 3:
            return set()
        vectors = self.embedder.embed_documents([text[start:end] for start, end in spans])
        cosines = np.array(
            [
                float(vectors[max(0, i - self._group) : i].mean(0) @ vectors[i : i + self._group].mean(0))
                for i in range(1, len(spans))
            ]
        )
        limit = np.quantile(cosines, self._quantile)
        return {i + 1 for i in np.flatnonzero(cosines <= limit).tolist()}
