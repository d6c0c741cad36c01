"""One suite for every vector store."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from smartmem.errors import DimensionMismatch
from smartmem.rag.protocols import Vectors, VectorStore
from smartmem.rag.registry import create
from smartmem.rag.types import Chunk, Condition, Filter

DIM = 16
Opener = Callable[..., VectorStore]
ODD = [
    "o'brien",
    'the "boss"',
    "100%",
    "50% off' or '1'=='1",
    "back\\slash",
    "new\nline",
    "张伟",
    "👨‍👩‍👧",
    "a\tb",
    "x || true",
    " ",
]


def openers(name: str, folder: Path) -> Iterator[Opener]:
    """Yields a function that opens the same collection each time it is called; all are closed at the end."""
    opened: list[VectorStore] = []
    specs = {
        "memory": {"name": "memory"},
        "memory-file": {"name": "memory", "path": str(folder / "vectors.db")},
        "milvus-lite": {"name": "milvus", "path": str(folder / "lite")},
    }

    def open_(dim: int = DIM) -> VectorStore:
        store: VectorStore = create("store", specs[name], dim=dim)
        opened.append(store)
        return store

    yield open_
    for store in opened:
        store.close()


@pytest.fixture(params=["memory", "memory-file", "milvus-lite"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    yield from openers(request.param, tmp_path)


@pytest.fixture(params=["memory-file", "milvus-lite"])
def durable_opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    yield from openers(request.param, tmp_path)


@pytest.fixture
def store(opener: Opener) -> VectorStore:
    return opener()


def unit_rows(n: int, seed: int = 0) -> Vectors:
    rows = np.random.default_rng(seed).normal(size=(n, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def chunk(id: str, text: str = "text", document: str = "d", **metadata: str | int | float | bool) -> Chunk:
    return Chunk(id=id, document_id=document, start=0, end=len(text), text=text, order=0, metadata=metadata)


def ids(store: VectorStore, vector: Vectors, k: int, **where: object) -> list[str]:
    return [hit.chunk.id for hit in store.search(vector, k, Filter.where(**where))]  # type: ignore[arg-type]


def test_an_empty_store_answers(store: VectorStore) -> None:
    assert store.search(unit_rows(1)[0], 5, Filter()) == []
    assert store.count(Filter()) == 0
    assert store.get(["x"]) == []
    assert list(store.iterate(Filter())) == []
    store.delete(["x"])
    store.upsert([], np.zeros((0, DIM), dtype=np.float32))
    assert store.count(Filter()) == 0


def test_a_chunk_comes_back_as_it_was(store: VectorStore) -> None:
    text = '她说：“你好” 👨‍👩‍👧 it\'s 100% \\ "quoted"\r\nnext'
    kept = Chunk(
        id="conv-1/D1:3",
        document_id="doc 'x'",
        start=7,
        end=7 + len(text),
        text=text,
        order=4,
        metadata={"user_id": 3, "type": "fact", "score": 0.25, "explicit": True, "name": "o'brien"},
        index_text="8 May, 2023\n" + text,
    )
    vector = unit_rows(1)
    store.upsert([kept], vector)
    assert store.get(["conv-1/D1:3"]) == [kept]
    (hit,) = store.search(vector[0], 1, Filter())
    assert hit.chunk == kept
    assert hit.score == pytest.approx(1, abs=1e-5)


def test_search_is_exact_and_ordered(store: VectorStore) -> None:
    rows = unit_rows(200)
    store.upsert([chunk(f"c{i:03}") for i in range(200)], rows)
    for query in unit_rows(5, seed=1):
        scores = rows.astype(np.float64) @ query.astype(np.float64)
        expected = sorted(range(200), key=lambda i: (-round(scores[i], 6), f"c{i:03}"))[:10]
        hits = store.search(query, 10, Filter())
        assert [hit.chunk.id for hit in hits] == [f"c{i:03}" for i in expected]
        assert [hit.score for hit in hits] == pytest.approx([scores[i] for i in expected], abs=1e-5)


def test_ties_are_ordered_by_id_also_at_the_cut(store: VectorStore) -> None:
    same = unit_rows(1)[0]
    names = [f"t{i:03}" for i in np.random.default_rng(2).permutation(80)]
    store.upsert([chunk(name) for name in names], np.tile(same, (80, 1)))
    assert ids(store, same, 7) == sorted(names)[:7]
    assert ids(store, same, 100) == sorted(names)


def test_k_of_zero_and_more_than_there_is(store: VectorStore) -> None:
    store.upsert([chunk("a")], unit_rows(1))
    assert store.search(unit_rows(1)[0], 0, Filter()) == []
    assert ids(store, unit_rows(1)[0], 50) == ["a"]


def test_upsert_replaces_text_vector_and_owner(store: VectorStore) -> None:
    rows = unit_rows(2)
    store.upsert([chunk("a", "old", user_id=1)], rows[:1])
    store.upsert([chunk("a", "new", user_id=2)], rows[1:])
    assert store.count(Filter()) == 1
    assert ids(store, rows[1], 5, user_id=1) == []
    (hit,) = store.search(rows[1], 5, Filter.where(user_id=2))
    assert (hit.chunk.text, round(hit.score, 4)) == ("new", 1.0)


def test_the_same_id_twice_in_one_call_keeps_the_last(store: VectorStore) -> None:
    store.upsert([chunk("a", "first"), chunk("a", "last")], unit_rows(2))
    assert [c.text for c in store.get(["a"])] == ["last"]
    assert store.count(Filter()) == 1


def test_delete_and_get(store: VectorStore) -> None:
    store.upsert([chunk(name) for name in "abcd"], unit_rows(4))
    store.delete(["b", "nobody"])
    assert [c.id for c in store.get(["d", "b", "a"])] == ["d", "a"]
    assert store.count(Filter()) == 3
    assert "b" not in ids(store, unit_rows(4)[1], 10)


def test_odd_values_find_only_their_own(store: VectorStore) -> None:
    rows = unit_rows(len(ODD))
    store.upsert([chunk(f"c{i}", user_id=name, tag=name) for i, name in enumerate(ODD)], rows)
    for i, name in enumerate(ODD):
        assert ids(store, rows[0], 50, user_id=name) == [f"c{i}"]
        assert ids(store, rows[0], 50, tag=name) == [f"c{i}"]
        assert store.count(Filter.where(user_id=name, tag=name)) == 1
    assert sorted(ids(store, rows[0], 50, user_id=ODD[:3])) == ["c0", "c1", "c2"]
    assert ids(store, rows[0], 50, user_id="nobody' or user_id != '") == []


def test_values_of_different_kinds_are_different(store: VectorStore) -> None:
    store.upsert(
        [chunk("int", user_id=1, v=1), chunk("str", user_id="1", v="1"), chunk("bool", user_id=2, v=True)], unit_rows(3)
    )
    query = unit_rows(1)[0]
    assert ids(store, query, 9, user_id=1) == ["int"]
    assert ids(store, query, 9, user_id="1") == ["str"]
    assert ids(store, query, 9, v=1) == ["int"]
    assert ids(store, query, 9, v="1") == ["str"]
    assert ids(store, query, 9, v=True) == ["bool"]


def test_filters(store: VectorStore) -> None:
    store.upsert(
        [chunk(f"c{i}", document=f"d{i % 2}", user_id=i % 2, n=i, day=f"2024-01-0{i + 1}") for i in range(6)],
        unit_rows(6),
    )

    def passing(*conditions: Condition) -> list[str]:
        filter = Filter(conditions)
        found = sorted(hit.chunk.id for hit in store.search(unit_rows(1)[0], 10, filter))
        assert store.count(filter) == len(found)
        assert [c.id for batch in store.iterate(filter, batch=2) for c in batch] == found
        return found

    assert passing(Condition(field="n", op="ge", value=4)) == ["c4", "c5"]
    assert passing(Condition(field="n", op="gt", value=4)) == ["c5"]
    assert passing(Condition(field="n", op="lt", value=1.5)) == ["c0", "c1"]
    assert passing(Condition(field="day", op="le", value="2024-01-02")) == ["c0", "c1"]
    assert passing(Condition(field="n", op="in", value=(1, 3, 9))) == ["c1", "c3"]
    assert passing(Condition(field="n", op="in", value=())) == []
    assert passing(Condition(field="missing", op="eq", value=1)) == []
    assert passing(Condition(field="document_id", op="eq", value="d1")) == ["c1", "c3", "c5"]
    assert (
        passing(Condition(field="user_id", op="eq", value=0), Condition(field="user_id", op="in", value=(1, 2))) == []
    )
    assert passing(Condition(field="user_id", op="eq", value=1), Condition(field="n", op="gt", value=1)) == ["c3", "c5"]


def test_iterate_gives_all_in_the_order_of_ids(store: VectorStore) -> None:
    names = [f"c{i:04}" for i in np.random.default_rng(3).permutation(1100)]
    store.upsert([chunk(name) for name in names], unit_rows(1100))
    batches = [[c.id for c in batch] for batch in store.iterate(Filter(), batch=400)]
    assert [len(batch) for batch in batches] == [400, 400, 300]
    assert [name for batch in batches for name in batch] == sorted(names)


def test_foreign_vectors_are_refused(store: VectorStore) -> None:
    with pytest.raises(DimensionMismatch, match="8"):
        store.upsert([chunk("a")], np.ones((1, 8), dtype=np.float32))
    with pytest.raises(DimensionMismatch):
        store.upsert([chunk("a")], unit_rows(2))
    with pytest.raises(DimensionMismatch):
        store.search(np.ones(8, dtype=np.float32), 1, Filter())
    assert store.count(Filter()) == 0


def test_readers_beside_a_writer(store: VectorStore) -> None:
    """Readers see whole batches' vectors only: the best hit for a stored vector is always that chunk."""
    rows = unit_rows(300)
    store.upsert([chunk(f"c{i:03}", user_id=i % 3) for i in range(100)], rows[:100])
    failures: list[object] = []
    stop = threading.Event()

    def read(offset: int) -> None:
        i = offset
        while not stop.is_set():
            i = (i + 7) % 100
            found = store.search(rows[i], 1, Filter.where(user_id=i % 3))
            if [hit.chunk.id for hit in found] != [f"c{i:03}"]:
                failures.append((i, found))

    readers = [threading.Thread(target=read, args=(n,)) for n in range(3)]
    for reader in readers:
        reader.start()
    for start in range(100, 300, 50):
        store.upsert([chunk(f"c{i:03}", user_id=i % 3) for i in range(start, start + 50)], rows[start : start + 50])
        store.delete([f"c{start:03}"])
    stop.set()
    for reader in readers:
        reader.join(30)
    assert failures == []
    assert store.count(Filter()) == 296


def test_what_was_written_is_there_after_reopening(durable_opener: Opener) -> None:
    rows = unit_rows(3)
    first = durable_opener()
    first.upsert([chunk(name, user_id="o'brien") for name in "abc"], rows)
    first.delete(["b"])
    first.close()
    first.close()
    again = durable_opener()
    assert ids(again, rows[0], 5, user_id="o'brien")[0] == "a"
    assert again.count(Filter()) == 2


def test_another_dimension_is_refused_on_reopening(durable_opener: Opener) -> None:
    first = durable_opener()
    first.upsert([chunk("a")], unit_rows(1))
    first.close()
    with pytest.raises(DimensionMismatch, match=r"16.*8"):
        durable_opener(dim=8)
    assert durable_opener().count(Filter()) == 1


def test_lite_flushes_once_before_the_search_after_a_bulk_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unflushed rows make each of its searches some fifteen times slower."""
    spec = {"name": "milvus", "path": str(tmp_path / "lite"), "index": "FLAT"}
    with contextlib.closing(create("store", spec, dim=DIM)) as store:
        flushed: list[str] = []
        flush = store._client.flush
        monkeypatch.setattr(store._client, "flush", lambda name, **more: flushed.append(name) or flush(name, **more))
        unit = np.zeros(DIM, dtype=np.float32)
        unit[0] = 1
        store.upsert([chunk("a")], unit[None])
        assert [hit.chunk.id for hit in store.search(unit, 1, Filter())] == ["a"]
        assert flushed == []
        many = np.tile(np.roll(unit, 1), (1200, 1))
        store.upsert([chunk(f"b{n:04}") for n in range(1200)], many)
        for _ in range(2):
            assert [hit.chunk.id for hit in store.search(unit, 2, Filter())] == ["a", "b0000"]
        assert len(flushed) == 1
