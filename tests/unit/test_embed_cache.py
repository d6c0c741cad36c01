"""The vector cache asks its embedder once for each text, across processes' lives and embedders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from smartmem.errors import StoreUnavailable
from smartmem.rag.embed import CachedEmbedder, MockEmbedder
from smartmem.rag.protocols import Vectors


class Counting(MockEmbedder):
    def __init__(self, dim: int = 8) -> None:
        super().__init__(dim)
        self.asked: list[str] = []

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        return super().embed_documents(texts)


def test_each_text_is_embedded_once(tmp_path: Path) -> None:
    inner = Counting()
    cached = CachedEmbedder(inner, str(tmp_path / "v.db"))
    rows = cached.embed_documents(["a", "b", "a"])
    assert inner.asked == ["a", "b"]
    cached.close()
    later = CachedEmbedder(inner, str(tmp_path / "v.db"))
    assert np.array_equal(later.embed_documents(["b", "a", "c"])[:2], rows[[1, 0]])
    assert inner.asked == ["a", "b", "c"]


def test_queries_documents_and_models_do_not_mix(tmp_path: Path) -> None:
    inner, other = Counting(8), Counting(16)
    path = str(tmp_path / "v.db")
    first = CachedEmbedder(inner, path)
    first.embed_documents(["a"])
    first.embed_queries(["a"])
    assert inner.asked == ["a", "a"]
    first.embed_queries(["a"])
    assert inner.asked == ["a", "a"]
    assert CachedEmbedder(other, path).embed_documents(["a"]).shape == (1, 16)
    assert other.asked == ["a"]


def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="vector cache"):
        CachedEmbedder(MockEmbedder(), str(tmp_path / "file" / "v.db"))
