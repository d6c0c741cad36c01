"""Reranking servers: Text Embeddings Inference, Cohere and Jina speak two dialects of one call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import httpx

from smartmem.errors import ConfigError, MalformedOutput, ModelError, TransientModelError
from smartmem.rag.registry import register
from smartmem.rag.rerank.order import reordered
from smartmem.rag.types import Hit, Query


@register("reranker", "http")
class HttpReranker:
    """`url` is the full address of the call. `style`: `tei` (query, texts) or `cohere` (model, query, documents; also
    Jina, vLLM and others). The key is read from the variable `api_key_env`, when that is named."""

    def __init__(
        self,
        url: str,
        style: Literal["tei", "cohere"] = "tei",
        model: str = "",
        api_key_env: str = "",
        candidates: int = 50,
        timeout_s: float = 10,
    ) -> None:
        if style not in ("tei", "cohere"):
            raise ConfigError(f"reranker 'http': style = {style!r}; use tei or cohere")
        key = os.environ.get(api_key_env, "") if api_key_env else ""
        if api_key_env and not key:
            raise ConfigError(f"reranker 'http': the variable {api_key_env} is not set; export your API key in it")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(timeout=timeout_s, headers=headers)
        self._url, self._style, self._model, self._candidates = url, style, model, candidates

    def rerank(self, query: Query, hits: Sequence[Hit], k: int) -> list[Hit]:
        head = hits[: self._candidates]
        if not head:
            return []
        texts = [hit.chunk.searchable for hit in head]
        body: dict[str, Any] = {"query": query.text}
        body |= (
            {"texts": texts, "truncate": True} if self._style == "tei" else {"documents": texts, "top_n": len(texts)}
        )
        if self._model:
            body["model"] = self._model
        return reordered(hits, self._scores(self._post(body), len(texts)), k)

    def close(self) -> None:
        """Close the connections that are kept for the next call."""
        self._client.close()

    def _post(self, body: dict[str, Any]) -> Any:
        try:
            answer = self._client.post(self._url, json=body)
        except httpx.TransportError as error:
            raise TransientModelError(f"reranker {self._url}: {type(error).__name__}; is the server up?") from error
        if answer.status_code == 429 or answer.status_code >= 500:
            raise TransientModelError(f"reranker {self._url}: status {answer.status_code}; try again later")
        if answer.status_code != 200:
            raise ModelError(f"reranker {self._url}: status {answer.status_code}: {answer.text[:200]}")
        try:
            return answer.json()
        except ValueError:
            raise MalformedOutput(f"reranker {self._url}: the answer is not JSON; check the address") from None

    def _scores(self, answer: Any, n: int) -> dict[int, float]:
        try:
            if self._style == "tei":
                scores = {int(item["index"]): float(item["score"]) for item in answer}
            else:
                scores = {int(item["index"]): float(item["relevance_score"]) for item in answer["results"]}
        except (KeyError, TypeError, ValueError):
            raise MalformedOutput(f"reranker {self._url}: no scores in {str(answer)[:200]}; check `style`") from None
        if not all(0 <= i < n for i in scores):
            raise MalformedOutput(f"reranker {self._url}: an index outside 0 … {n - 1}")
        return scores
