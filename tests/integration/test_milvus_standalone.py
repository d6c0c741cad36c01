"""The store contract against the standalone Milvus server, which has partition keys where Lite has none."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import numpy as np
import pytest

from smartmem.errors import DimensionMismatch
from smartmem.rag.protocols import VectorStore
from smartmem.rag.registry import create
from smartmem.rag.types import Filter
from tests.contract import test_store_contract as contract
from tests.support.milvus_server import MilvusServer

pytestmark = pytest.mark.milvus_server


@pytest.fixture
def name() -> str:
    return f"t{uuid.uuid4().hex}"


@pytest.fixture
def store(milvus_server: MilvusServer, name: str) -> Iterator[VectorStore]:
    made: VectorStore = create(
        "store", {"name": "milvus", "uri": milvus_server.uri, "collection": name}, dim=contract.DIM
    )
    yield made
    made.close()


test_an_empty_store_answers = contract.test_an_empty_store_answers
test_a_chunk_comes_back_as_it_was = contract.test_a_chunk_comes_back_as_it_was
test_search_is_exact_and_ordered = contract.test_search_is_exact_and_ordered
test_ties_are_ordered_by_id_also_at_the_cut = contract.test_ties_are_ordered_by_id_also_at_the_cut
test_upsert_replaces_text_vector_and_owner = contract.test_upsert_replaces_text_vector_and_owner
test_the_same_id_twice_in_one_call_keeps_the_last = contract.test_the_same_id_twice_in_one_call_keeps_the_last
test_delete_and_get = contract.test_delete_and_get
test_odd_values_find_only_their_own = contract.test_odd_values_find_only_their_own
test_values_of_different_kinds_are_different = contract.test_values_of_different_kinds_are_different
test_filters = contract.test_filters
test_iterate_gives_all_in_the_order_of_ids = contract.test_iterate_gives_all_in_the_order_of_ids
test_foreign_vectors_are_refused = contract.test_foreign_vectors_are_refused


def test_another_client_sees_it_and_another_dimension_is_refused(
    store: VectorStore, milvus_server: MilvusServer, name: str
) -> None:
    rows = contract.unit_rows(2)
    store.upsert([contract.chunk("a", user_id="o'brien"), contract.chunk("b", user_id=2)], rows)
    spec = {"name": "milvus", "uri": milvus_server.uri, "collection": name}
    other = create("store", spec, dim=contract.DIM)
    assert [h.chunk.id for h in other.search(rows[0], 5, Filter.where(user_id="o'brien"))] == ["a"]
    other.close()
    with pytest.raises(DimensionMismatch, match=r"16.*8"):
        create("store", spec, dim=8)


def test_hnsw_finds_the_nearest(milvus_server: MilvusServer, name: str) -> None:
    spec = {"name": "milvus", "uri": milvus_server.uri, "collection": name, "index": "HNSW"}
    store = create("store", spec, dim=contract.DIM)
    rows = contract.unit_rows(500)
    store.upsert([contract.chunk(f"c{i:03}", user_id=i % 5) for i in range(500)], rows)
    found = [store.search(row, 1, Filter.where(user_id=i % 5))[0].chunk.id for i, row in enumerate(rows[:50])]
    assert np.mean([id == f"c{i:03}" for i, id in enumerate(found)]) >= 0.95
    store.close()
