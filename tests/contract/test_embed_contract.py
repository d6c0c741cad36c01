"""One suite for every embedder that needs no server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smartmem.errors import ConfigError
from smartmem.rag.models import fetch
from smartmem.rag.protocols import Embedder
from smartmem.rag.registry import create, spec_of
from tests.support.registered import shipped

SPECS: dict[str, dict[str, Any]] = {
    "mock": {"name": "mock"},
    "onnx": {"name": "onnx", "model": "bge-small-en"},
    "static": {"name": "static"},
    "sentence-transformers": {"name": "sentence-transformers"},
    "cached": {"name": "cached", "inner": "mock"},
    "by-language": {
        "name": "by-language",
        "first": {"name": "onnx", "model": "bge-small-en"},
        "other": {"name": "onnx", "model": "multilingual-e5-small"},
    },
}
TEXTS = [
    "I love hiking in the mountains.",
    "我喜欢爬山。",
    "👨‍👩‍👧 trip 🇨🇳",
    "",
    "   ",
    "line\r\nbreak",
    "x" * 5000,
    "a \x00 b",
]


@pytest.fixture(scope="module", params=sorted(SPECS))
def embedder(
    request: pytest.FixtureRequest, fetched_models: None, tmp_path_factory: pytest.TempPathFactory
) -> Embedder:
    spec = dict(SPECS[request.param])
    if request.param == "cached":
        spec["path"] = str(tmp_path_factory.mktemp("cache") / "v.db")
    made: Embedder = create("embedder", spec)
    return made


def test_every_embedder_is_held_to_this() -> None:
    assert sorted([*SPECS, "openai"]) == shipped("embedder")  # openai: tests/integration/test_embed_openai.py


def test_rows_are_unit_float32(embedder: Embedder) -> None:
    for embed in (embedder.embed_documents, embedder.embed_queries):
        rows = embed(TEXTS)
        assert rows.shape == (len(TEXTS), embedder.dim)
        assert rows.dtype == np.float32
        assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)


def test_batches_of_none_and_one(embedder: Embedder) -> None:
    assert embedder.embed_documents([]).shape == (0, embedder.dim)
    assert embedder.embed_queries([]).shape == (0, embedder.dim)
    assert embedder.embed_documents(["one"]).shape == (1, embedder.dim)


def test_a_text_has_one_vector_whatever_stands_beside_it(embedder: Embedder) -> None:
    alone = np.concatenate([embedder.embed_documents([text]) for text in TEXTS])
    together = embedder.embed_documents(TEXTS)
    reverse = embedder.embed_documents(TEXTS[::-1])[::-1]
    assert alone == pytest.approx(together, abs=1e-5)
    assert reverse == pytest.approx(together, abs=1e-5)


def test_threads_get_the_same(embedder: Embedder) -> None:
    expected = embedder.embed_documents(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(lambda _: embedder.embed_documents(TEXTS), range(8)):
            assert rows == pytest.approx(expected, abs=1e-5)


def test_fingerprint_and_specification(embedder: Embedder, tmp_path: Path) -> None:
    again: Embedder = create("embedder", spec_of(embedder))
    assert again.fingerprint == embedder.fingerprint
    assert again.embed_documents(TEXTS[:2]) == pytest.approx(embedder.embed_documents(TEXTS[:2]), abs=1e-5)


@pytest.mark.parametrize("name", ["onnx", "static", "sentence-transformers"])
def test_models_know_meaning_and_mock_does_not(name: str, fetched_models: None) -> None:
    texts = ["My dog is called Rex.", "The stock market fell on Monday."]
    query = ["What is the name of my dog?"]

    def gap(spec: dict[str, Any]) -> float:
        made = create("embedder", spec)
        near, far = made.embed_documents(texts) @ made.embed_queries(query)[0]
        return float(near - far)

    assert gap(SPECS[name]) > 0.15
    assert abs(gap({"name": "mock", "dim": 384})) < 0.15


def test_a_built_onnx_form_agrees_with_sentence_transformers() -> None:
    fetch("all-MiniLM-L6-v2")
    texts = [*TEXTS[:3], "The dog ran away last May but came back after two weeks.", "yoga", "Work was hard. " * 30]
    slow = create("embedder", "sentence-transformers").embed_documents(texts)
    quick = create("embedder", {"name": "onnx", "model": "all-MiniLM-L6-v2"}).embed_documents(texts)
    assert (slow * quick).sum(1).min() > 0.98


def test_a_multilingual_model_reads_chinese() -> None:
    fetch("multilingual-e5-small")
    embedder = create("embedder", {"name": "onnx", "model": "multilingual-e5-small"})
    texts = ["我女儿最喜欢蓝色的裙子。", "周一股市下跌了。"]
    for question in ("我家孩子爱穿什么颜色的衣服？", "Which colour does my daughter like to wear?"):
        near, far = embedder.embed_documents(texts) @ embedder.embed_queries([question])[0]
        assert near > far + 0.03


def test_each_text_goes_to_the_model_that_reads_it(fetched_models: None) -> None:
    both = create("embedder", SPECS["by-language"])
    assert both.languages == ()
    english, chinese = (create("embedder", SPECS["by-language"][part]) for part in ("first", "other"))
    for how in ("embed_documents", "embed_queries"):
        expected = np.concatenate([getattr(english, how)([TEXTS[0]]), getattr(chinese, how)([TEXTS[1]])])
        assert np.array_equal(getattr(both, how)(TEXTS[:2]), expected)
    assert both.fingerprint not in (english.fingerprint, chinese.fingerprint)
    assert english.fingerprint in both.fingerprint


def test_without_the_other_model_the_first_stands_alone(
    fetched_models: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    english = create("embedder", SPECS["onnx"])
    site = tmp_path / "models.toml"
    site.write_text('[absent]\ntask = "embedder"\nhub = "none/such"\nfiles = { "model.onnx" = { path = "m" } }\n')
    monkeypatch.setenv("SMARTMEM_MODELS", str(site))
    alone = create("embedder", SPECS["by-language"] | {"other": {"name": "onnx", "model": "absent"}})
    assert (alone.languages, alone.fingerprint) == (("en",), english.fingerprint)
    assert np.array_equal(alone.embed_documents(TEXTS[:2]), english.embed_documents(TEXTS[:2]))


def test_two_models_of_one_embedder_have_to_fit(fetched_models: None) -> None:
    with pytest.raises(ConfigError, match=r"first = .*mock.* names no languages"):
        create("embedder", {"name": "by-language", "first": {"name": "mock"}, "other": {"name": "mock"}})
    uneven = create("embedder", SPECS["by-language"] | {"other": {"name": "mock", "dim": 8}})
    with pytest.raises(ConfigError, match="384 and 8 dimensions"):
        uneven.embed_documents([TEXTS[1]])
