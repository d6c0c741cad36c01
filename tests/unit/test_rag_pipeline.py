"""The pipeline: ingest, retrieve, fall back, print itself; and the corpora that guard it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from smartmem.errors import (
    ConfigError,
    DimensionMismatch,
    ScopeError,
    StoreUnavailable,
    TransientModelError,
    UnknownComponent,
)
from smartmem.rag.corpus import ChatCorpus, MemoryCorpus, WebCorpus
from smartmem.rag.pipeline import Pipeline
from smartmem.rag.presets import preset, preset_names
from smartmem.rag.protocols import Corpus
from smartmem.rag.registry import create
from smartmem.rag.types import Document, Filter, Hit, Query

# Lexical hits count double: the mock embedder knows no meaning.
SPEC: dict[str, Any] = {
    "chunker": "turn",
    "embedder": "mock",
    "retriever": {"name": "hybrid", "weights": [2.0, 1.0]},
    "k": 3,
}


class Failing:
    """A reranker that cannot."""

    def rerank(self, query: Query, hits: Sequence[Hit], k: int) -> list[Hit]:
        raise TransientModelError("the reranker's server is down")


def turn(id: str, text: str, user: int | str = 1, **metadata: str | int) -> Document:
    return Document(id=id, text=text, metadata={"user_id": user, "speaker": "Ann", **metadata})


def talk() -> list[Document]:
    return [turn("t0", "I bought a red bicycle."), turn("t1", "The cat sleeps."), turn("t2", "I sold my car.", 2)]


def test_ingest_and_retrieve() -> None:
    pipeline = Pipeline.from_spec(SPEC)
    assert pipeline.ingest(talk()) == 3
    found = pipeline.retrieve("red bicycle", filter=Filter.where(user_id=1))
    assert found.hits[0].chunk.id == "t0"
    assert {hit.chunk.metadata["user_id"] for hit in found.hits} == {1}
    assert (found.fallback_reason, found.stages) == (None, ())
    assert found.ms > 0


def test_blank_queries_and_empty_indexes_answer_nothing() -> None:
    pipeline = Pipeline.from_spec(SPEC)
    assert pipeline.retrieve("anything").hits == ()
    pipeline.ingest(talk())
    assert pipeline.retrieve("  \n").hits == ()
    assert pipeline.retrieve("bicycle", 0).hits == ()
    assert pipeline.ingest([]) == 0


def test_a_document_ingested_again_replaces_its_old_self() -> None:
    for spec in (SPEC, {"retriever": "bm25"}):
        pipeline = Pipeline.from_spec({**spec, "chunker": {"name": "fixed", "size": 20, "overlap": 0}})
        long = Document(id="d", text="alpha beta gamma delta epsilon zeta", metadata={"user_id": 1})
        assert pipeline.ingest([long]) == 2
        assert pipeline.ingest([Document(id="d", text="alpha only", metadata={"user_id": 1})]) == 1
        assert [hit.chunk.text for hit in pipeline.retrieve("epsilon zeta alpha", 9).hits] == ["alpha only"]


def test_documents_can_be_forgotten() -> None:
    for spec in (SPEC, {"retriever": "bm25"}):
        pipeline = Pipeline.from_spec(spec)
        pipeline.ingest(talk())
        pipeline.delete(["t0", "nobody"])
        assert "t0" not in {hit.chunk.id for hit in pipeline.retrieve("red bicycle", 9).hits}


def test_threshold_drops_weak_hits() -> None:
    pipeline = Pipeline.from_spec({**SPEC, "retriever": "dense", "threshold": 0.9})
    pipeline.ingest(talk())
    assert [hit.chunk.id for hit in pipeline.retrieve("Ann: The cat sleeps.", 9).hits] == ["t1"]
    assert pipeline.retrieve("something else", 9).hits == ()


def test_a_failing_reranker_leaves_the_retrievers_order() -> None:
    plain = Pipeline.from_spec(SPEC)
    parts = {"embedder": create("embedder", "mock")}
    parts["store"] = create("store", "memory", dim=parts["embedder"].dim)
    broken = Pipeline(
        chunker=create("chunker", "turn"),
        retriever=create("retriever", SPEC["retriever"], **parts),
        reranker=Failing(),
        k=3,
    )
    for pipeline in (plain, broken):
        pipeline.ingest(talk())
    expected = [hit.chunk.id for hit in plain.retrieve("red bicycle").hits]
    found = broken.retrieve("red bicycle", trace=True)
    assert [hit.chunk.id for hit in found.hits] == expected
    assert found.fallback_reason is not None
    assert "TransientModelError: the reranker's server is down" in found.fallback_reason
    assert found.stages[-1].note.startswith("TransientModelError")


def test_errors_of_embedder_and_store_keep_their_kind(tmp_path: Path) -> None:
    pipeline = Pipeline.from_spec({**SPEC, "store": {"name": "memory", "path": str(tmp_path / "v.db")}})
    pipeline.ingest(talk())
    pipeline.close()
    with pytest.raises(StoreUnavailable):
        pipeline.retrieve("bicycle")
    with pytest.raises(DimensionMismatch, match="64"):
        Pipeline.from_spec(
            {
                **SPEC,
                "embedder": {"name": "mock", "dim": 8},
                "store": {"name": "memory", "path": str(tmp_path / "v.db")},
            }
        )


def test_a_durable_store_is_taken_up_again(tmp_path: Path) -> None:
    spec = {**SPEC, "store": {"name": "memory", "path": str(tmp_path / "v.db")}}
    first = Pipeline.from_spec(spec)
    first.ingest(talk())
    expected = [hit.chunk.id for hit in first.retrieve("red bicycle").hits]
    first.close()
    again = Pipeline.from_spec(spec)
    assert [hit.chunk.id for hit in again.retrieve("red bicycle").hits] == expected
    again.close()


def test_trace_names_every_stage_with_its_hits() -> None:
    pipeline = Pipeline.from_spec(
        {**SPEC, "retriever": {"name": "neighbours", "base": SPEC["retriever"]}, "threshold": 0.0}
    )
    pipeline.ingest(talk())
    stages = pipeline.retrieve("red bicycle", trace=True).stages
    assert [s.name for s in stages] == [
        "bm25",
        "embed",
        "dense",
        "fuse",
        "neighbours",
        "retrieve",
        "threshold",
        "rerank",
    ]
    assert all(stage.ms >= 0 for stage in stages)
    assert {"score_0", "rank_0"} <= set(stages[3].hits[0].reasons)


def test_the_specification_makes_the_pipeline_again() -> None:
    pipeline = Pipeline.from_spec({**SPEC, "retriever": {"name": "neighbours", "base": {"name": "hybrid", "depth": 9}}})
    spec = pipeline.spec()
    assert Pipeline.from_spec(spec).spec() == spec
    assert spec["retriever"]["base"]["parts"][0]["k1"] == 0.9
    assert spec["embedder"] == {"name": "mock", "dim": 64}


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ({"chunkr": "turn"}, ConfigError, "chunkr"),
        ({"retriever": "bm52"}, UnknownComponent, "bm52.*bm25"),
        ({"retriever": {"name": "bm25", "k2": 1}}, ConfigError, "k2.*k1"),
        ({"retriever": {"k1": 1}}, ConfigError, "no name"),
        ({"retriever": "dense"}, ConfigError, "embedder"),
        ({"retriever": "bm25", "k": 0}, ConfigError, "k = 0"),
        ({"preset": "quick"}, ConfigError, "fast, balanced, quality"),
    ],
)
def test_bad_specifications_are_named(spec: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Pipeline.from_spec(spec)


def test_the_only_chunk_with_a_rare_word_wins_among_few() -> None:
    """A memory of two items must not lose its one lexical hit to a normalisation over a list of one."""
    for method in ("zscore", "minmax", "rrf"):
        pipeline = Pipeline.from_spec({**SPEC, "retriever": {"name": "hybrid", "method": method, "weights": [1.1, 1]}})
        pipeline.ingest(talk()[:2])
        for text, expected in (("bicycle", "t0"), ("cat", "t1")):
            assert pipeline.retrieve(text).hits[0].chunk.id == expected


def test_presets_are_whole_specifications() -> None:
    assert preset_names() == ["fast", "balanced", "quality"]
    for name in preset_names():
        spec = {key: value for key, value in preset(name).items() if key != "reranker"}
        pipeline = Pipeline.from_spec({**spec, "embedder": "mock"})
        pipeline.ingest(talk())
        assert pipeline.retrieve("red bicycle", filter=Filter.where(user_id=1)).hits[0].chunk.id == "t0"


# --- corpora ------------------------------------------------------------------------------------------------------


def corpus(kind: type[MemoryCorpus | ChatCorpus | WebCorpus]) -> Any:
    return kind(Pipeline.from_spec(SPEC))


@pytest.mark.parametrize(
    ("kind", "owner"),
    [(MemoryCorpus, "user_id"), (ChatCorpus, "user_id"), (WebCorpus, "session_id"), (WebCorpus, "query_id")],
)
def test_nothing_is_searched_without_the_obligatory_filter(kind: Any, owner: str) -> None:
    made = corpus(kind)
    assert isinstance(made, Corpus)
    made.add([Document(id=f"d{n}", text="red bicycle", metadata={owner: n}) for n in (1, 2)])
    assert [hit.chunk.document_id for hit in made.search("bicycle", **{owner: 2}).hits] == ["d2"]
    for scope in (
        {},
        {owner: ""},
        {owner: "  "},
        {owner: 0},
        {owner: -1},
        {owner: [1, 2]},
        {owner: True},
        {owner: None},
    ):
        with pytest.raises(ScopeError, match=owner):
            made.search("bicycle", **scope)
        with pytest.raises(ScopeError, match=owner):
            made.delete(["d1"], **scope)
    with pytest.raises(ScopeError, match="d3"):
        made.add([Document(id="d3", text="x", metadata={"type": "fact"})])
    with pytest.raises(ConfigError, match="colour"):
        made.search("bicycle", **{owner: 1, "colour": "red"})


def test_one_cannot_delete_what_is_anothers() -> None:
    made = corpus(MemoryCorpus)
    made.add(talk())
    made.delete(["t0", "t2"], user_id=2)
    assert made.search("red bicycle", user_id=1).hits[0].chunk.id == "t0"
    assert made.search("sold car", user_id=2).hits == ()


def test_filters_narrow() -> None:
    made = corpus(ChatCorpus)
    made.add([turn("a", "tea", conversation_id="x", turn=1), turn("b", "tea", conversation_id="y", turn=2)])
    assert [h.chunk.id for h in made.search("tea", user_id=1, conversation_id="y").hits] == ["b"]
    assert len(made.search("tea", user_id=1, conversation_id=["x", "y"]).hits) == 2
    assert [h.chunk.id for h in made.search("tea", user_id=1, narrow=Filter.where(turn=1)).hits] == ["a"]


def test_counters() -> None:
    made = corpus(MemoryCorpus)
    assert (made.stats().hit_rate, made.stats().fallback_rate) == (0.0, 0.0)
    made.add(talk())
    made.search("bicycle", user_id=1)
    made.search(Query(text="bicycle", at=dt.datetime(2024, 1, 1, tzinfo=dt.UTC)), user_id=7)
    made.pipeline.reranker = Failing()
    made.search("bicycle", user_id=1)
    stats = made.stats()
    assert (stats.searches, stats.with_hits, stats.fallbacks, stats.errors) == (3, 2, 1, {})
    assert (round(stats.hit_rate, 2), round(stats.fallback_rate, 2)) == (0.67, 0.33)
    assert 0 < stats.p50_ms <= stats.p95_ms
