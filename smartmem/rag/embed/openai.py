"""Embedding through any OpenAI-compatible endpoint."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from smartmem.errors import ConfigError, MalformedOutput, MissingExtra, ModelError, TransientModelError
from smartmem.rag.embed.vectors import empty, unit
from smartmem.rag.protocols import Vectors
from smartmem.rag.registry import register


@register("embedder", "openai")
class OpenAIEmbedder:
    """`dim` must be named: a store is laid out before the first call. The key is read from the variable named by
    `api_key_env`, never from a file. The client retries time-outs, 429 and 5xx `max_retries` times by itself."""

    def __init__(
        self,
        model: str,
        dim: int,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        batch: int = 64,
        timeout_s: float = 30,
        max_retries: int = 2,
        send_dim: bool = False,
        query_prefix: str = "",
        document_prefix: str = "",
    ) -> None:
        try:
            import openai
        except ImportError:
            raise MissingExtra("openai", "llm") from None
        key = os.environ.get(api_key_env)
        if not key and base_url is None:
            raise ConfigError(f"embedder 'openai': the variable {api_key_env} is not set; export your API key in it")
        # Local servers ask for no key, but the client refuses to be made without one.
        self._client: Any = openai.OpenAI(
            api_key=key or "none", base_url=base_url, timeout=timeout_s, max_retries=max_retries
        )
        self._errors: Any = openai
        self._model, self.dim, self._batch = model, dim, batch
        self.tokens_read = 0
        self._extra = {"dimensions": dim} if send_dim else {}
        self._query_prefix, self._document_prefix = query_prefix, document_prefix
        self.languages: tuple[str, ...] = ()
        self.fingerprint = f"openai:{base_url or 'api.openai.com'}:{model}:{dim}:{query_prefix}|{document_prefix}"

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return self._embed([self._document_prefix + text for text in texts])

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._embed([self._query_prefix + text for text in texts])

    def _embed(self, texts: list[str]) -> Vectors:
        if not texts:
            return empty(self.dim)
        parts = [self._call(texts[i : i + self._batch]) for i in range(0, len(texts), self._batch)]
        return unit(np.concatenate(parts))

    def _call(self, texts: list[str]) -> Vectors:
        # An empty input is an error to most servers; a space has the same meaning.
        sent = [text if text.strip() else " " for text in texts]
        try:
            answer = self._client.embeddings.create(
                model=self._model, input=sent, encoding_format="float", **self._extra
            )
        except (
            self._errors.APIConnectionError,
            self._errors.RateLimitError,
            self._errors.InternalServerError,
        ) as error:
            raise TransientModelError(f"embedding endpoint, model {self._model!r}: {error}; try again later") from error
        except self._errors.OpenAIError as error:
            raise ModelError(f"embedding endpoint, model {self._model!r}: {error}") from error
        # Not every server says what it read.
        self.tokens_read += getattr(getattr(answer, "usage", None), "total_tokens", 0) or 0
        rows = [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]
        if len(rows) != len(texts) or any(len(row) != self.dim for row in rows):
            sizes = sorted({len(row) for row in rows})
            raise MalformedOutput(
                f"embedding endpoint, model {self._model!r}: asked for {len(texts)} vectors of {self.dim}, "
                f"got {len(rows)} of {sizes}; set `dim` to what the model gives"
            )
        return np.array(rows, dtype=np.float32)
