"""The openai embedder against a scripted endpoint."""

from __future__ import annotations

import numpy as np
import pytest

from smartmem.errors import ConfigError, MalformedOutput, ModelError, TransientModelError
from smartmem.rag.registry import create, spec_of
from tests.support.openai_server import EMBEDDING_DIM, OpenAIServer, Reply


def embedder(server: OpenAIServer, **options: object) -> object:
    spec = {"name": "openai", "model": "m", "dim": EMBEDDING_DIM, "base_url": server.base_url, "max_retries": 0}
    return create("embedder", {**spec, **options})


def test_rows_are_unit_and_in_order(openai_server: OpenAIServer) -> None:
    made = embedder(openai_server, batch=2)
    texts = ["one", "我喜欢茶", "", "four", "five"]
    rows = made.embed_documents(texts)  # type: ignore[attr-defined]
    assert rows.shape == (5, EMBEDDING_DIM)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert len(openai_server.requests) == 3
    alone = made.embed_documents(["four"])  # type: ignore[attr-defined]
    assert alone[0] == pytest.approx(rows[3], abs=1e-6)
    assert made.embed_documents([]).shape == (0, EMBEDDING_DIM)  # type: ignore[attr-defined]


def test_prefixes_tell_queries_from_documents(openai_server: OpenAIServer) -> None:
    made = embedder(openai_server, query_prefix="query: ")
    assert not np.allclose(made.embed_queries(["a"]), made.embed_documents(["a"]))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(status=429), TransientModelError),
        (Reply(status=503), TransientModelError),
        (Reply(drop=True), TransientModelError),
        (Reply(status=401), ModelError),
        (Reply(status=400), ModelError),
    ],
)
def test_errors_by_kind(openai_server: OpenAIServer, reply: Reply, error: type[Exception]) -> None:
    openai_server.embeddings.script(reply)
    with pytest.raises(error, match="embedding endpoint, model 'm'"):
        embedder(openai_server).embed_documents(["a"])  # type: ignore[attr-defined]


def test_another_dimension_is_named(openai_server: OpenAIServer) -> None:
    with pytest.raises(MalformedOutput, match=rf"of 99, got 1 of \[{EMBEDDING_DIM}\]"):
        embedder(openai_server, dim=99).embed_documents(["a"])  # type: ignore[attr-defined]


def test_the_key_is_never_in_the_specification(openai_server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    made = embedder(openai_server, api_key_env="MY_KEY")
    assert "sk-secret" not in str(spec_of(made))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        create("embedder", {"name": "openai", "model": "m", "dim": 8})
