"""Embedding with sentence-transformers and torch, for models that come without an ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from smartmem.errors import MissingExtra, ModelError
from smartmem.rag.embed.vectors import empty, unit
from smartmem.rag.models import resolve
from smartmem.rag.protocols import Vectors
from smartmem.rag.registry import register


@register("embedder", "sentence-transformers")
class SentenceTransformersEmbedder:
    """`model`: a name of models.toml or a folder. `bf16` is 1.7 to 2.8 times as fast on CPUs with AVX512-BF16 or AMX,
    at a cosine of 1.000 to fp32; elsewhere it is slower. Faster yet: the embedder `onnx` with the same model."""

    def __init__(self, model: str = "all-MiniLM-L6-v2", bf16: bool = False, batch: int = 32) -> None:
        try:
            import torch
            from sentence_transformers import SentenceTransformer
            from transformers.utils.logging import disable_progress_bar
        except ImportError as error:
            raise MissingExtra(error.name or "sentence-transformers", "st") from None
        disable_progress_bar()  # type: ignore[no-untyped-call]  # a bar of 0.01 s on every load is noise in logs and notebooks
        files = resolve(model)
        self._batch = batch
        self._query_prefix, self._document_prefix = files.entry.query_prefix, files.entry.document_prefix
        try:
            self._model: Any = SentenceTransformer(str(files.folder), device="cpu", local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"model {model!r} in {files.folder} cannot be loaded: {error}") from error
        if bf16:
            self._model.to(torch.bfloat16)
        self.dim = len(self._embed(["dim"])[0])
        self.languages = files.entry.languages
        self.fingerprint = f"sentence-transformers:{model}:{files.version}:{'bf16' if bf16 else 'fp32'}"

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return self._embed([self._document_prefix + text for text in texts])

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._embed([self._query_prefix + text for text in texts])

    def _embed(self, texts: list[str]) -> Vectors:
        if not texts:
            return empty(self.dim)
        try:
            rows = self._model.encode(texts, batch_size=self._batch, show_progress_bar=False, convert_to_tensor=True)
        except RuntimeError as error:  # torch's only error class for memory, shapes and kernels
            raise ModelError(f"torch failed on {len(texts)} texts: {error}") from error
        return unit(np.asarray(rows.float().cpu().numpy()))
