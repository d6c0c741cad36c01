"""A cosine is counted between what the embedder gives to strangers and what it gives to answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from smartmem.memory.calibrate import Scale, relevance, scale
from smartmem.rag.models import fetch
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
    mock = scale(create("embedder", "mock"), "en")
    assert mock.strangers < 0.1
    assert mock.answers == 1.0, "vectors without meaning do not know an answer from anything else"
    narrow = Narrow("narrow-1")
    assert scale(narrow, "en").strangers > 0.9
    calls = narrow.calls
    assert scale(narrow, "zh").strangers <= 0.95
    scale(narrow, "en")
    assert narrow.calls == calls + 2  # once a language


def test_a_model_s_answers_count_in_full() -> None:
    fetch("bge-small-en")
    known = scale(create("embedder", {"name": "onnx", "model": "bge-small-en"}), "en")
    assert 0.2 < known.strangers < 0.4 < 0.55 < known.answers < 0.8


@pytest.mark.parametrize(
    ("cosine", "expected"), [(1.0, 1.0), (0.8, 1.0), (0.4, 0.0), (0.2, 0.0), (0.6, 0.5), (-1.0, 0.0)]
)
def test_relevance_runs_from_strangers_to_answers(cosine: float, expected: float) -> None:
    assert relevance(cosine, Scale(0.4, 0.8)) == pytest.approx(expected)
