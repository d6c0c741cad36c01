"""Milvus: a Lite folder by default, a server by URI, through the same client."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from smartmem.errors import BadRecord, ConfigError, DimensionMismatch, MissingExtra, StoreError, StoreUnavailable
from smartmem.rag.protocols import Vectors
from smartmem.rag.registry import register
from smartmem.rag.store import milvus_lite
from smartmem.rag.store.milvus_expr import check_field, encoded, expression, owner_of
from smartmem.rag.types import Chunk, Filter, Hit, ranked
from smartmem.telemetry import log

_ID_BYTES, _PAYLOAD_BYTES = 512, 65_535
_WRITE = 1000  # rows a call: 1,000 x 1,024 dimensions are 4 MB, far below gRPC's limit
_FLUSH_AT = 1000  # rows
_MAX_LIMIT = 16_384  # the server's
_PARTITION_KEYS = (2, 4)
_DIGITS = 6  # float32 noise below this must not decide between equal vectors


@register("store", "milvus")
class MilvusStore:
    """One collection: key, document, owner (from `user_id`; the partition key where the server can), vector, and the
    chunk as JSON; every metadata value is a dynamic field for filters.

    `path`: a Lite folder (one process at a time). `uri`: a server instead; its token is read from the variable named
    by `token_env`. `index`: FLAT (exact), HNSW or AUTOINDEX. Reads see every write that returned before them.
    """

    def __init__(
        self,
        dim: int,
        path: str | None = None,
        uri: str | None = None,
        collection: str = "smartmem",
        index: str = "FLAT",
        token_env: str = "MILVUS_TOKEN",  # noqa: S107 - the name of a variable, not a secret
        timeout_s: float = 30,
    ) -> None:
        if (path is None) == (uri is None):
            raise ConfigError("store 'milvus': name either `path` (a Lite folder) or `uri` (a server)")
        if index not in ("FLAT", "HNSW", "AUTOINDEX"):
            raise ConfigError(f"store 'milvus': index = {index!r}; use FLAT, HNSW or AUTOINDEX")
        try:
            import pymilvus
        except ImportError:
            raise MissingExtra("pymilvus", "milvus") from None
        self.dim = dim
        self._name, self._index, self._timeout = collection, index, timeout_s
        self._lite = Path(path).expanduser() if path is not None else None
        self._where = uri or str(self._lite)
        self._api: Any = pymilvus
        address = milvus_lite.acquire(self._lite) if self._lite is not None else uri
        try:
            with self._named("connect"):
                self._client: Any = pymilvus.MilvusClient(
                    uri=address, token=os.environ.get(token_env, ""), timeout=timeout_s
                )
                self._open()
        except BaseException:
            if self._lite is not None:
                milvus_lite.release(self._lite)
            raise
        self._closed = False
        self._unflushed = 0

    def upsert(self, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        if vectors.shape != (len(chunks), self.dim):
            raise DimensionMismatch(
                f"store 'milvus': {len(chunks)} chunks of {self.dim} dimensions expected, got an array {vectors.shape};"
                " use the embedder that this collection was made for"
            )
        # A call with the same id twice would leave it to the server which of them stays: the last one does.
        rows = {chunk.id: _row(chunk, vector) for chunk, vector in zip(chunks, vectors, strict=True)}
        listed = list(rows.values())
        with self._named("upsert"):
            for i in range(0, len(listed), _WRITE):
                self._client.upsert(self._name, listed[i : i + _WRITE], timeout=self._timeout)
        self._unflushed += len(listed)

    def search(self, vector: Vectors, k: int, filter: Filter) -> list[Hit]:
        if vector.shape != (self.dim,):
            raise DimensionMismatch(f"store 'milvus': the query has shape {vector.shape}, expected ({self.dim},)")
        if k < 1:
            return []
        limit = min(k + 16, _MAX_LIMIT)
        while True:
            found = self._search(vector, limit, filter)
            # Equal scores at the cut: ask for more until the whole group of equals is there to be ordered by id.
            full = len(found) == limit and limit < _MAX_LIMIT
            if not full or found[-1].score < found[k - 1].score:
                return ranked(found, k)
            limit = min(limit * 4, _MAX_LIMIT)

    def get(self, ids: Sequence[str]) -> list[Chunk]:
        if not ids:
            return []
        found: dict[str, Chunk] = {}
        with self._named("get"):
            for i in range(0, len(ids), _WRITE):
                part = list(dict.fromkeys(ids[i : i + _WRITE]))
                rows = self._client.get(self._name, ids=part, output_fields=["payload"], timeout=self._timeout)
                found.update((row["id"], _chunk(row["id"], row["payload"])) for row in rows)
        return [found[id] for id in ids if id in found]

    def delete(self, ids: Sequence[str]) -> None:
        with self._named("delete"):
            for i in range(0, len(ids), _WRITE):
                self._client.delete(self._name, ids=list(ids[i : i + _WRITE]), timeout=self._timeout)

    def count(self, filter: Filter) -> int:
        with self._named("count"):
            rows = self._client.query(
                self._name, filter=expression(filter), output_fields=["count(*)"], timeout=self._timeout
            )
        return int(rows[0]["count(*)"])

    def iterate(self, filter: Filter, batch: int = 1000) -> Iterator[list[Chunk]]:
        """Over the ids of the first call: chunks that are deleted meanwhile are left out."""
        ids = sorted(self._ids(filter))
        for i in range(0, len(ids), batch):
            chunks = self.get(ids[i : i + batch])
            if chunks:
                yield chunks

    def take_alias(self, alias: str) -> None:
        """Let `alias` name this collection from now on: fill a new collection beside the old one, then switch its
        users, who opened the alias, in one step. Stores that are already open stay where they are."""
        with self._named("alias"):
            held = {
                name
                for collection in self._client.list_collections()
                for name in self._client.list_aliases(collection)["aliases"]
            }
            switch = self._client.alter_alias if alias in held else self._client.create_alias
            switch(self._name, alias, timeout=self._timeout)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._client.close()
        if self._lite is not None:
            milvus_lite.release(self._lite)

    def _open(self) -> None:
        """Find the collection or make it, and load it (a reopened one answers nothing before that)."""
        client, kinds = self._client, self._api.DataType
        if not client.has_collection(self._name, timeout=self._timeout):
            schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
            schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=_ID_BYTES)
            schema.add_field("document_id", kinds.VARCHAR, max_length=_ID_BYTES)
            schema.add_field("owner", kinds.VARCHAR, max_length=_ID_BYTES, is_partition_key=self._partitions())
            schema.add_field("payload", kinds.VARCHAR, max_length=_PAYLOAD_BYTES)
            schema.add_field("vector", kinds.FLOAT_VECTOR, dim=self.dim)
            index = client.prepare_index_params()
            build = {"M": 16, "efConstruction": 200} if self._index == "HNSW" else {}
            index.add_index(field_name="vector", index_type=self._index, metric_type="COSINE", params=build)
            client.create_collection(
                self._name, schema=schema, index_params=index, consistency_level="Strong", timeout=self._timeout
            )
        fields = {field["name"]: field for field in client.describe_collection(self._name)["fields"]}
        stored = fields.get("vector", {}).get("params", {}).get("dim")
        if "payload" not in fields or stored is None:
            raise ConfigError(f"Milvus collection {self._name!r} in {self._where} is not smartmem's; name another one")
        if int(stored) != self.dim:
            raise DimensionMismatch(
                f"Milvus collection {self._name!r} in {self._where} holds vectors of {stored} dimensions, the embedder "
                f"makes {self.dim}; name another collection or use the embedder that filled it"
            )
        client.load_collection(self._name, timeout=self._timeout)

    def _partitions(self) -> bool:
        """Whether owners may be partitions. Before 2.4 an upsert computes the partition from the wrong field (Milvus
        pull request 30772), so that a filter on the owner finds nothing; Lite keeps no partitions."""
        if self._lite is not None:
            return False
        version = str(self._client.get_server_version())
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        if numbers >= _PARTITION_KEYS:
            return True
        log.warning("Milvus %s upserts into wrong partitions: owners are a filter only, which is slower", version)
        return False

    def _flush_lite(self) -> None:
        """Lite goes through rows that were never flushed one by one: 10,000 of them take 570 ms a search, flushed 39.
        By the first search after many writes, not by the writes: a bulk write pays once, for 0.1 to 0.3 s."""
        if self._lite is None or self._unflushed < _FLUSH_AT:
            return
        with self._named("flush"):
            self._client.flush(self._name, timeout=self._timeout)
        self._unflushed = 0

    def _search(self, vector: Vectors, limit: int, filter: Filter) -> list[Hit]:
        self._flush_lite()
        params: dict[str, Any] = {"metric_type": "COSINE"}
        if self._index == "HNSW":
            params["params"] = {"ef": max(64, limit)}
        with self._named("search"):
            answer = self._client.search(
                self._name,
                data=[np.asarray(vector, dtype=np.float32).tolist()],
                filter=expression(filter),
                limit=limit,
                output_fields=["payload"],
                search_params=params,
                timeout=self._timeout,
            )
        hits = [
            Hit(_chunk(row["id"], row["entity"]["payload"]), round(float(row["distance"]), _DIGITS))
            for row in answer[0]
        ]
        return ranked(hits)

    def _ids(self, filter: Filter) -> list[str]:
        found: list[str] = []
        with self._named("iterate"):
            pages = self._client.query_iterator(
                self._name, filter=expression(filter), output_fields=["id"], batch_size=_WRITE, timeout=self._timeout
            )
            try:
                while page := pages.next():
                    found += [row["id"] for row in page]
            finally:
                pages.close()
        return found

    @contextmanager
    def _named(self, action: str) -> Iterator[None]:
        """Errors by kind: what may pass by itself is `StoreUnavailable`."""
        import grpc

        try:
            yield
        except self._api.MilvusException as error:
            code = getattr(error, "code", None)
            if code in _UNAVAILABLE or "connect" in str(error).lower() or "unavailable" in str(error).lower():
                raise StoreUnavailable(
                    f"Milvus at {self._where}: {action}: {error}; is the server up? Try again"
                ) from error
            raise StoreError(f"Milvus at {self._where}, collection {self._name!r}: {action}: {error}") from error
        except grpc.RpcError as error:
            raise StoreUnavailable(
                f"Milvus at {self._where}: {action}: {error}; is the server up? Try again"
            ) from error


# pymilvus' own codes for a lost or refused connection, and gRPC's DEADLINE_EXCEEDED and UNAVAILABLE.
_UNAVAILABLE = frozenset({2, 4, 14})


def _row(chunk: Chunk, vector: Vectors) -> dict[str, Any]:
    payload = json.dumps(
        [chunk.start, chunk.end, chunk.order, chunk.text, chunk.index_text, chunk.document_id, dict(chunk.metadata)],
        ensure_ascii=False,
        separators=(",", ":"),
    )
    owner = owner_of(chunk.metadata)
    for name, value, most in (("id", chunk.id, _ID_BYTES), ("document_id", chunk.document_id, _ID_BYTES),
                              ("owner", owner, _ID_BYTES), ("text and metadata", payload, _PAYLOAD_BYTES)):  # fmt: skip
        if len(value.encode("utf-8", "surrogatepass")) > most:
            raise BadRecord(f"chunk {chunk.id[:80]!r}: its {name} is over Milvus's {most} bytes; use smaller chunks")
    fields = {check_field(name): encoded(value) for name, value in chunk.metadata.items()}
    return {
        **fields,
        "id": chunk.id,
        "document_id": chunk.document_id,
        "owner": owner,
        "payload": payload,
        "vector": np.asarray(vector, dtype=np.float32),
    }


def _chunk(id: str, payload: str) -> Chunk:
    start, end, order, text, index_text, document_id, metadata = json.loads(payload)
    return Chunk(
        id=id,
        document_id=document_id,
        start=start,
        end=end,
        text=text,
        order=order,
        metadata=metadata,
        index_text=index_text,
    )
