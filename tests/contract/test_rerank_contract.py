"""One suite for every reranker, over a scripted endpoint where it needs one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smartmem.errors import ConfigError, MalformedOutput, ModelError, TransientModelError
from smartmem.llm.scripted import ScriptedChat
from smartmem.rag.dialogue import Sequences
from smartmem.rag.models import resolve
from smartmem.rag.onnx import loaded
from smartmem.rag.protocols import Reranker
from smartmem.rag.registry import create
from smartmem.rag.trace import tracing
from smartmem.rag.types import Chunk, Hit, Query, ranked
from tests.support.openai_server import OpenAIServer, Reply
from tests.support.registered import shipped

TEXTS = ["The weather is nice.", "My dog is called Rex.", "我喜欢喝茶。", "👨‍👩‍👧 trip", "Rex barked all night."]
QUERY = Query(text="What is the name of my dog?")
Make = Callable[[], Reranker]


def hits(n: int = 5) -> list[Hit]:
    made = [
        Chunk(id=f"c{i}", document_id="s", start=0, end=1, text=TEXTS[i % 5], order=i, metadata={"turn": i})
        for i in range(n)
    ]
    return [Hit(chunk, 1.0 - i / 100) for i, chunk in enumerate(made)]


@pytest.fixture(params=["none", "cross-encoder", "cross-encoder-context", "llm", "http-tei", "http-cohere"])
def reranker(request: pytest.FixtureRequest, fetched_models: None) -> Iterator[Reranker]:
    with OpenAIServer() as server:
        root = server.base_url.removesuffix("/v1")
        sequences = Sequences()
        sequences.add([hit.chunk for hit in hits()])
        specs: dict[str, dict[str, Any]] = {
            "none": {"name": "none"},
            "cross-encoder": {"name": "cross-encoder"},
            "cross-encoder-context": {
                "name": "cross-encoder", "context": 1, "after": 1, "blend": 0.5, "sequences": sequences,
            },
            "llm": {"name": "llm", "model": ScriptedChat({"ranking": [2, 5]}, loop=True)},
            "http-tei": {"name": "http", "url": f"{root}/rerank", "style": "tei"},
            "http-cohere": {"name": "http", "url": f"{root}/v1/rerank", "style": "cohere", "model": "m"},
        }  # fmt: skip
        made: Reranker = create("reranker", specs[request.param])
        yield made
        getattr(made, "close", lambda: None)()


def test_every_reranker_is_held_to_this() -> None:
    assert shipped("reranker") == ["cross-encoder", "http", "llm", "none"]


def test_none_and_one(reranker: Reranker) -> None:
    assert reranker.rerank(QUERY, [], 5) == []
    assert reranker.rerank(QUERY, hits(), 0) == []


def test_keeps_all_in_order_and_cuts_at_k(reranker: Reranker) -> None:
    order = reranker.rerank(QUERY, hits(), 5)
    assert sorted(hit.chunk.id for hit in order) == [f"c{i}" for i in range(5)]
    assert order == ranked(order)
    assert [hit.chunk.id for hit in reranker.rerank(QUERY, hits(), 2)] == [hit.chunk.id for hit in order[:2]]


def test_the_answer_comes_first(reranker: Reranker) -> None:
    if type(reranker).__name__ == "NoReranker":
        assert reranker.rerank(QUERY, hits(), 1)[0].chunk.id == "c0"
    else:  # with context, the turns beside the answer profit from it too
        best = 2 if getattr(reranker, "_sequences", None) else 1
        assert "c1" in [hit.chunk.id for hit in reranker.rerank(QUERY, hits(), best)]


def test_reasons_say_what_was_before(reranker: Reranker) -> None:
    for hit in reranker.rerank(QUERY, hits(), 5):
        if type(reranker).__name__ != "NoReranker":
            assert hit.reasons["rank_before"] == int(hit.chunk.id[1]) + 1
            assert hit.reasons["before"] == pytest.approx(1 - int(hit.chunk.id[1]) / 100)


def test_a_cross_encoders_scores_can_be_read(fetched_models: None) -> None:
    order = create("reranker", "cross-encoder").rerank(QUERY, hits(), 5)
    found = {hit.chunk.id: hit.score for hit in order}
    assert found["c1"] > 0.9  # the answer
    assert 0 < found["c2"] < 0.1  # about something else
    logits = loaded(resolve("reranker-en"), max_length=512).pair_scores(QUERY.text, TEXTS)
    expected = sorted(((logit, f"c{i}") for i, logit in enumerate(logits)), reverse=True)
    assert [hit.chunk.id for hit in order] == [id for _, id in expected]
    assert found["c1"] == pytest.approx(1 / (1 + np.exp(-expected[0][0])))


def test_unscored_hits_follow_in_their_order(fetched_models: None) -> None:
    order = create("reranker", {"name": "cross-encoder", "candidates": 2}).rerank(QUERY, hits(), 5)
    assert [hit.chunk.id for hit in order] == ["c1", "c0", "c2", "c3", "c4"]
    assert order == ranked(order)


def test_a_time_budget_scores_at_least_one_and_keeps_the_rest(fetched_models: None) -> None:
    reranker = create("reranker", {"name": "cross-encoder", "candidates": 100, "time_budget_ms": 0.001, "threads": 1})
    order = reranker.rerank(QUERY, hits(100), 100)
    scored = [hit.chunk.id for hit in order if "rerank" in hit.reasons]
    assert 1 <= len(scored) < 100
    assert [hit.chunk.id for hit in order if "rerank" not in hit.reasons] == [
        f"c{i}" for i in range(100) if f"c{i}" not in scored
    ]


def test_context_lets_a_question_speak_for_its_answer(fetched_models: None) -> None:
    said = ["What is your dog's name?", "It's Rex, of course!", "I bought shoes.", "Nice ones."]
    chunks = [
        Chunk(id=f"c{i}", document_id="s", start=0, end=1, text=text, order=i, metadata={"turn": i})
        for i, text in enumerate(said)
    ]
    sequences = Sequences()
    sequences.add(chunks)
    found = [Hit(chunk, 1.0) for chunk in chunks]
    alone = create("reranker", "cross-encoder").rerank(Query(text="How is the dog called?"), found, 4)
    context = create("reranker", {"name": "cross-encoder", "context": 1}, sequences=sequences)
    helped = context.rerank(Query(text="How is the dog called?"), found, 4)
    gap = {h.chunk.id: h.score for h in helped}["c1"] - {h.chunk.id: h.score for h in alone}["c1"]
    assert gap > 0


def test_context_without_the_order_of_turns_is_refused(fetched_models: None) -> None:
    with pytest.raises(ConfigError, match="order of the turns"):
        create("reranker", {"name": "cross-encoder", "context": 1})


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(status=503), TransientModelError),
        (Reply(status=429), TransientModelError),
        (Reply(drop=True), TransientModelError),
        (Reply(status=401), ModelError),
        (Reply(body="<html>"), MalformedOutput),
        (Reply(body='{"results": 3}'), MalformedOutput),
        (Reply(body='[{"index": 99, "score": 1}]'), MalformedOutput),
    ],
)
def test_http_errors_by_kind(reply: Reply, error: type[Exception]) -> None:
    with OpenAIServer() as server:
        server.rerank.script(reply)
        url = server.base_url.removesuffix("/v1") + "/rerank"
        reranker = create("reranker", {"name": "http", "url": url})
        with pytest.raises(error, match="rerank"):
            reranker.rerank(QUERY, hits(), 5)
        reranker.close()


@pytest.mark.parametrize("line", ["no json", {"ranking": [9]}, {"ranking": [0]}, {"order": [1]}])
def test_llm_nonsense_is_refused(line: Any) -> None:
    with pytest.raises(MalformedOutput):
        create("reranker", {"name": "llm", "model": ScriptedChat(line)}).rerank(QUERY, hits(), 5)


@pytest.mark.parametrize("text", ["我的狗叫什么名字？", "What is the name of my dog? " * 20])
def test_a_cross_encoder_keeps_the_order_of_a_question_that_it_cannot_judge(text: str, fetched_models: None) -> None:
    reranker = create("reranker", "cross-encoder")
    with tracing() as stages:
        assert reranker.rerank(Query(text=text), hits(), 3) == hits()[:3]
    assert stages[0].note.endswith("order kept")
    assert reranker.rerank(QUERY, hits(), 3) != hits()[:3]


def test_pairs_in_the_cache_are_not_read_again(tmp_path: Path, fetched_models: None) -> None:
    spec = {"name": "cross-encoder", "pair_cache": str(tmp_path / "pairs.sqlite")}
    fresh = create("reranker", spec).rerank(QUERY, hits(), 5)
    again = create("reranker", spec)
    again._pairs._encoder = None  # reading a pair would raise
    assert again.rerank(QUERY, hits(), 5) == fresh == create("reranker", "cross-encoder").rerank(QUERY, hits(), 5)
    with pytest.raises(ConfigError, match="time_budget_ms"):
        create("reranker", {**spec, "time_budget_ms": 50})
