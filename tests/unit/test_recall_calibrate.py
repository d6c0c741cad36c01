"""A cosine is counted from what the embedder gives to strangers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from smartmem.memory.calibrate import baseline, relevance
from smartmem.rag.protocols import Vectors
from smartmem.rag.registry import create


class Narrow:
    """Gives all texts nearly the same vector, as some models do."""

    dim = 4
    languages: tuple[str, ...] = ()

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint, self.calls = fingerprint, 0

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        self.calls += 1
        rows = np.array([[1.0, 0.1 * (len(text) % 3), 0.0, 0.0] for text in texts], dtype=np.float32)
        made: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return made

    embed_queries = embed_documents


def test_the_level_is_the_embedders_own() -> None:
    assert baseline(create("embedder", "mock"), "en") < 0.1
    narrow = Narrow("narrow-1")
    assert baseline(narrow, "en") > 0.9
    calls = narrow.calls
    assert baseline(narrow, "zh") <= 0.95
    baseline(narrow, "en")
    assert narrow.calls == calls + 2  # once a language


@pytest.mark.parametrize(("cosine", "expected"), [(1.0, 1.0), (0.4, 0.0), (0.2, 0.0), (0.7, 0.5), (-1.0, 0.0)])
def test_relevance_runs_from_strangers_to_the_same_words(cosine: float, expected: float) -> None:
    assert relevance(cosine, 0.4) == pytest.approx(expected)
