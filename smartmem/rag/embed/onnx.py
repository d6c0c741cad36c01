"""Embedding with ONNX Runtime and tokenizers: no torch, about 400 turns/s on two cores with an int8 model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smartmem.rag.embed.vectors import empty, unit
from smartmem.rag.models import resolve
from smartmem.rag.onnx import Encoder
from smartmem.rag.protocols import Vectors
from smartmem.rag.registry import register


@register("embedder", "onnx")
class OnnxEmbedder:
    """A transformer in ONNX form. `model`: a name of models.toml or a folder with model.onnx and tokenizer.json.

    Pooling, prefixes and length come from models.toml; options given here win. `threads`: texts in work at once.

        create("embedder", {"name": "onnx", "model": "bge-small-en"})
    """

    def __init__(
        self,
        model: str = "multilingual-e5-small",
        pooling: str | None = None,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
        max_length: int | None = None,
        threads: int | None = None,
    ) -> None:
        files = resolve(model)
        entry = files.entry
        self._pooling = pooling or entry.pooling
        self._query_prefix = entry.query_prefix if query_prefix is None else query_prefix
        self._document_prefix = entry.document_prefix if document_prefix is None else document_prefix
        length = max_length or entry.max_length
        self._encoder = Encoder(files, max_length=length, threads=threads)
        self.dim: int = entry.dim or self._pool(self._encoder.hidden("dim")).shape[0]
        self.languages = entry.languages
        prefixes = f"{self._query_prefix}|{self._document_prefix}"
        self.fingerprint = f"onnx:{model}:{files.version}:{self._pooling}:{length}:{prefixes}"

    @property
    def tokens_read(self) -> int:
        """Tokens that the model has read so far."""
        return self._encoder.tokens_read

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return self._embed([self._document_prefix + text for text in texts])

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._embed([self._query_prefix + text for text in texts])

    def _embed(self, texts: list[str]) -> Vectors:
        if not texts:
            return empty(self.dim)
        return unit(np.stack([self._pool(hidden) for hidden in self._encoder.hidden_many(texts)]))

    def _pool(self, hidden: Vectors) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """(tokens, dim) to (dim,): the first token's state, or the mean of all (there is no padding)."""
        pooled: np.ndarray[tuple[int], np.dtype[np.float32]] = hidden[0] if self._pooling == "cls" else hidden.mean(0)
        return pooled
