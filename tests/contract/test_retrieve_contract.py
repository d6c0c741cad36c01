"""One suite for every retriever, with vectors without meaning: order, filters and life cycle are what is tested."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from smartmem.rag.protocols import Retriever
from smartmem.rag.registry import create, spec_of
from smartmem.rag.types import Chunk, Filter, Query, ranked
from tests.support.registered import shipped

SPECS: dict[str, dict[str, Any]] = {
    "bm25": {"name": "bm25"},
    "bm25-window": {"name": "bm25", "window": 2},
    "dense": {"name": "dense"},
    "dense-context": {"name": "dense", "context": 1},
    "hybrid": {"name": "hybrid"},
    "hybrid-rrf": {"name": "hybrid", "method": "rrf", "weights": [2, 1]},
    "hybrid-minmax": {"name": "hybrid", "method": "minmax", "depth": 60},
    "neighbours": {"name": "neighbours"},
    "mmr": {"name": "mmr", "base": "hybrid"},
    "late-interaction": {"name": "late-interaction"},
    "dates": {"name": "dates"},
    "preset": {
        "name": "neighbours",
        "base": {
            "name": "late-interaction",
            "depth": 4,
            "base": {
                "name": "hybrid",
                "parts": ["bm25", {"name": "bm25", "window": 2}, {"name": "dense", "context": 1}],
            },
        },
    },
}
Maker = Callable[[], Retriever]
WORDS = [
    "tea",
    "green tea",
    "black tea with milk",
    "coffee",
    "我喜欢喝茶",
    "绿茶",
    "tea and coffee",
    "water",
    "tea",
    "juice",
]


@pytest.fixture(params=sorted(SPECS))
def make(request: pytest.FixtureRequest, fetched_models: None) -> Maker:
    def maker() -> Retriever:
        embedder = create("embedder", {"name": "mock", "dim": 32})
        made: Retriever = create(
            "retriever",
            SPECS[request.param],
            embedder=embedder,
            store=create("store", "memory", dim=32),
        )
        return made

    return maker


def chunks(user: int | str = 1, n: int = 10) -> list[Chunk]:
    return [
        Chunk(
            id=f"u{user!r}-{i:02}",
            document_id=f"s{user!r}",
            start=0,
            end=1,
            text=WORDS[i % len(WORDS)],
            order=i,
            metadata={"user_id": user, "turn": i, "speaker": "Ann" if i % 2 else "Bob"},
        )
        for i in range(n)
    ]


def found(retriever: Retriever, text: str, k: int = 50, **where: Any) -> list[str]:
    hits = retriever.retrieve(Query(text=text, filter=Filter.where(**where)), k)
    assert hits == ranked(hits), "not in the order (-score, id)"
    assert len({hit.chunk.id for hit in hits}) == len(hits)
    return [hit.chunk.id for hit in hits]


def first(retriever: Retriever, text: str, id: str) -> bool:
    """Whether `id` is the first hit; one of the first where neighbours' words count as much as a turn's own."""
    blurred = spec_of(retriever).get("window", 0) > 0 or spec_of(retriever).get("weight", 0) > 0
    return id in found(retriever, text, 5 if blurred else 1, user_id=1)


def test_every_retriever_is_held_to_this() -> None:
    assert sorted({spec["name"] for spec in SPECS.values()}) == shipped("retriever")


def test_an_empty_one_answers(make: Maker) -> None:
    retriever = make()
    retriever.index([])
    retriever.restore([])
    retriever.delete(["nobody"])
    assert found(retriever, "tea") == []


def test_the_exact_text_comes_first(make: Maker) -> None:
    retriever = make()
    retriever.index(chunks())
    assert first(retriever, "black tea with milk", "u1-02")
    assert first(retriever, "我喜欢喝茶", "u1-04")


def test_k_bounds_the_answer_and_does_not_change_its_head(make: Maker) -> None:
    retriever = make()
    retriever.index(chunks())
    assert found(retriever, "tea", 0) == []
    everything = found(retriever, "tea", 50)
    assert len(found(retriever, "tea", 3)) == 3
    if type(retriever).__name__ != "MmrRetriever":
        assert found(retriever, "tea", 3) == everything[:3]


def test_nothing_of_others_is_found(make: Maker) -> None:
    retriever = make()
    odd = "o'brien 100%\" or 1=1"
    for user in (1, 2, "1", odd):
        retriever.index(chunks(user))
    assert {id.split("-")[0] for id in found(retriever, "tea", user_id=2)} == {"u2"}
    assert set(found(retriever, "tea", user_id=odd)) <= {c.id for c in chunks(odd)}
    assert found(retriever, "tea", user_id="nobody") == []
    speakers = {int(id.split("-")[1]) % 2 for id in found(retriever, "tea coffee", user_id=1, speaker="Ann")}
    assert speakers == {1}


def test_indexing_again_replaces(make: Maker) -> None:
    retriever = make()
    retriever.index(chunks())
    changed = Chunk(
        id="u1-02", document_id="s1", start=0, end=1, text="zebra", order=2, metadata={"user_id": 1, "turn": 2}
    )
    retriever.index([changed])
    assert first(retriever, "zebra", "u1-02")
    hits = retriever.retrieve(Query(text="zebra", filter=Filter.where(user_id=1)), 9)
    assert changed in [hit.chunk for hit in hits]
    assert len(set(found(retriever, "tea zebra coffee water juice 茶"))) <= 10


def test_deleted_chunks_are_gone(make: Maker) -> None:
    retriever = make()
    retriever.index(chunks())
    retriever.delete(["u1-02", "nobody"])
    left = make()
    left.index([chunk for chunk in chunks() if chunk.id != "u1-02"])
    assert found(retriever, "milk tea") == found(left, "milk tea")
    assert "u1-02" not in found(retriever, "black tea with milk")
    retriever.index(chunks())
    assert first(retriever, "black tea with milk", "u1-02")


def test_in_parts_or_at_once_is_the_same(make: Maker) -> None:
    whole, parts = make(), make()
    whole.index(chunks())
    for chunk in chunks():
        parts.index([chunk])
    for text in ("tea", "绿茶", "coffee and water"):
        assert found(whole, text) == found(parts, text)


def test_readers_side_by_side(make: Maker) -> None:
    retriever = make()
    retriever.index(chunks())
    expected = found(retriever, "green tea")
    with ThreadPoolExecutor(4) as pool:
        assert all(answer == expected for answer in pool.map(lambda _: found(retriever, "green tea"), range(24)))


def test_the_specification_is_whole(make: Maker) -> None:
    retriever = make()
    spec = spec_of(retriever)
    assert spec["name"] in shipped("retriever")
    again = create(
        "retriever",
        spec,
        embedder=create("embedder", {"name": "mock", "dim": 32}),
        store=create("store", "memory", dim=32),
    )
    again.index(chunks())
    retriever.index(chunks())
    assert found(again, "green tea") == found(retriever, "green tea")


def test_a_hybrid_leaves_out_vectors_of_another_language() -> None:
    embedder = create("embedder", "mock")
    embedder.languages = ("en",)
    store = create("store", "memory", dim=embedder.dim)
    texts = ["我住在杭州。", "我养了一只三花猫，叫豆包。", "My cat is called Rex."]
    chunks = [Chunk(id=f"c{i}", document_id="d", start=0, end=1, text=t, order=i) for i, t in enumerate(texts)]
    hybrid = create("retriever", "hybrid", embedder=embedder, store=store)
    words = create("retriever", "bm25")
    for retriever in (hybrid, words):
        retriever.index(chunks)
    asked = Query(text="我的猫叫什么？")
    assert [hit.chunk.id for hit in hybrid.retrieve(asked, 5)] == [hit.chunk.id for hit in words.retrieve(asked, 5)]
    assert len(hybrid.retrieve(Query(text="What is my cat called?"), 5)) == 3  # vectors bring in what shares no word
