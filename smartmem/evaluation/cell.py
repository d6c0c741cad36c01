"""One cell of a run: one arm on one dataset, from documents to ranked hits, each stage through the cache."""

from __future__ import annotations

import functools
import inspect
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from smartmem.errors import SmartMemError
from smartmem.evaluation.cache import StageCache, code_hash, key_of, pack, unpack
from smartmem.evaluation.datasets import EvalQuery
from smartmem.evaluation.inputs import chosen_queries, chunks_of, dataset_of, embedder_of
from smartmem.evaluation.latency import time_queries
from smartmem.evaluation.suite import ArmSpec, DatasetSpec, Suite
from smartmem.evaluation.usage import CountedEmbedder, Usage, reranker_fingerprint, tokens_read
from smartmem.rag.dialogue import Sequences
from smartmem.rag.embed.cache import CachedEmbedder
from smartmem.rag.protocols import Embedder, Reranker, Retriever
from smartmem.rag.registry import component, create, spec_of
from smartmem.rag.types import Chunk, Filter, Hit, Query, ranked
from smartmem.telemetry import log

EMBED_BATCH = 256
Ranking = list[tuple[str, float]]


@dataclass(slots=True, kw_only=True)
class CellResult:
    """What a cell brought. `hits` has chunk ids with scores by query id; a query is in `hits` or in `failed`."""

    dataset: str
    arm: str
    hits: dict[str, Ranking] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    chunks: list[Chunk] = field(default_factory=list)
    error: str = ""
    spec: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    reranker_fingerprint: str = ""
    latency_ms: list[float] = field(default_factory=list)
    latency_from_cache: bool = False
    costs: dict[str, float] = field(default_factory=dict)


class CellCosts(NamedTuple):
    """What a cell still has to do. Vectors that other runs left in the cache are counted too: hence 'at most'."""

    documents: int
    chunks: int
    queries: int
    queries_to_run: int
    vectors_at_most: int
    pairs_to_rerank: int
    model_calls_at_most: int


class Cell:
    """The stages of one arm on one dataset. Nothing heavy is loaded before a stage needs it."""

    def __init__(self, suite: Suite, dataset: DatasetSpec, arm: ArmSpec, cache: StageCache) -> None:
        self.suite, self.dataset_spec, self.arm, self.cache = suite, dataset, arm, cache
        self.dataset, self.corpus = dataset_of(dataset.model_dump_json())
        self.queries = chosen_queries(suite, dataset, self.dataset)
        self.usage = Usage()
        self._owners = {talk.id: talk.user_id for talk in self.dataset.conversations}

    @property
    def _cut(self) -> tuple[list[Chunk], str]:
        return chunks_of(self.dataset_spec.model_dump_json(), json.dumps(self.arm.chunker, sort_keys=True))

    @functools.cached_property
    def chunks(self) -> list[Chunk]:
        return self._cut[0]

    @functools.cached_property
    def _chunks_key(self) -> str:
        return self._cut[1]

    @functools.cached_property
    def bare_embedder(self) -> Embedder | None:
        return embedder_of(json.dumps(self.arm.embedder, sort_keys=True)) if self.arm.embedder else None

    @functools.cached_property
    def embedder(self) -> CachedEmbedder | None:
        bare = self.bare_embedder
        return CachedEmbedder(CountedEmbedder(bare, self.usage), self.cache.vectors_path) if bare is not None else None

    @functools.cached_property
    def reranker(self) -> Reranker | None:
        if not self.arm.reranker:
            return None
        # A reranker that stops at a time reads what that time allows, today's and not the cache's.
        kept = {} if "time_budget_ms" in self.arm.reranker else {"pair_cache": self.cache.pairs_path}
        made: Reranker = create("reranker", self.arm.reranker, sequences=self._sequences, **kept)
        return made

    def uncached_reranker(self) -> Reranker | None:
        """The arm's reranker as a live system has it: every pair is read."""
        made: Reranker | None = None
        if self.arm.reranker:
            made = create("reranker", self.arm.reranker, sequences=self._sequences)
        return made

    @functools.cached_property
    def _sequences(self) -> Sequences:
        """Who stands next to whom, for components that read the turns around a hit."""
        sequences = Sequences()
        sequences.add(self.chunks)
        return sequences

    def retriever(self, embedder: Embedder | None) -> Retriever:
        """A fresh retriever with nothing indexed."""
        injected: dict[str, Any] = {"sequences": self._sequences, "token_cache": self.cache.tokens_path}
        if embedder is not None:
            injected |= {"embedder": embedder, "store": create("store", self.arm.store or "memory", dim=embedder.dim)}
        made: Retriever = create("retriever", self.arm.retriever, **injected)
        return made

    @functools.cached_property
    def index_key(self) -> bytes:
        """Of the index: every chunk as it is indexed, the retriever with its options, the model, the code."""
        fingerprint = self.bare_embedder.fingerprint if self.bare_embedder is not None else ""
        code = code_hash(
            "rag/retrieve",
            "rag/store",
            "rag/rows.py",
            "rag/scores.py",
            "rag/dialogue.py",
            "rag/models.toml",
            "rag/onnx.py",
        )
        return key_of("index", self._chunks_key, self.arm.retriever, self.arm.store, fingerprint, code)

    @functools.cached_property
    def whole_key(self) -> bytes:
        """Of all answers of the cell together: one look-up instead of thousands when nothing has changed."""
        asked = [(q.id, q.text, q.conversation_id, q.at) for q in self.queries]
        rerank = [self.reranker_key, self.arm.rerank_top] if self.arm.reranker else []
        return key_of("cell", self.index_key.hex(), self.dataset_spec.restrict, self.suite.k, rerank, asked)

    def hits_key(self, query: EvalQuery) -> bytes:
        scope = query.conversation_id if self.dataset_spec.restrict else ""
        return key_of("hits", self.index_key.hex(), query.text, scope, query.at, self.suite.k)

    def rerank_key(self, query: EvalQuery, hits: Sequence[Hit]) -> bytes:
        return key_of("rerank", self.reranker_key, query.text, [(h.chunk.id, h.chunk.searchable) for h in hits])

    @functools.cached_property
    def reranker_key(self) -> str:
        kind = component("reranker", (self.arm.reranker or {}).get("name", ""))
        module = inspect.getmodule(kind)
        source = inspect.getsource(module) if module else ""
        # A reranker that reads neighbouring turns depends on all of them, not on the hits alone.
        around = self._chunks_key if "sequences" in inspect.signature(kind).parameters else ""
        model = reranker_fingerprint(self.arm.reranker)
        return key_of(
            self.arm.reranker, model, source, around, code_hash("rag/models.toml", "rag/onnx.py", "rag/scores.py")
        ).hex()

    def query_of(self, query: EvalQuery) -> Query:
        """What the retriever is asked, restricted to the query's conversation where the protocol says so."""
        scope = Filter()
        if self.dataset_spec.restrict:
            # The owner too: the exact store keeps one array a user, and searches that one only.
            owner = self._owners[query.conversation_id]
            scope = Filter.where(user_id=owner, conversation_id=query.conversation_id)
        return Query(id=query.id, text=query.text, filter=scope, at=query.at)

    def plan(self) -> CellCosts:
        """What is still to do: cached answers cost nothing, and vectors are counted as if none were cached."""
        known = self.cache.get_many([self.hits_key(q) for q in self.queries])
        open_queries = len(self.queries) - len(known)
        if open_queries:
            self.retriever(self.bare_embedder)  # a wrong name or option is told before anything is computed
        pairs = reranks = 0
        if self.reranker is not None:
            keys = []
            by_id = {chunk.id: chunk for chunk in self.chunks}
            for query in self.queries:
                row = known.get(self.hits_key(query))
                if row is None:
                    pairs, reranks = pairs + self.arm.rerank_top, reranks + 1
                else:
                    head = _hits(row, by_id)[: self.arm.rerank_top]
                    keys.append((self.rerank_key(query, head), len(head)))
            done = self.cache.get_many([key for key, _ in keys])
            todo = [count for key, count in keys if key not in done]
            pairs, reranks = pairs + sum(todo), reranks + len(todo)
        texts = len({c.searchable for c in self.chunks}) if self.arm.embedder is not None and open_queries else 0
        vectors = texts + open_queries if texts else 0
        return CellCosts(
            documents=len(self.corpus.documents),
            chunks=len(self.chunks),
            queries=len(self.queries),
            queries_to_run=open_queries,
            vectors_at_most=vectors,
            pairs_to_rerank=pairs,
            model_calls_at_most=-(-texts // EMBED_BATCH) - (-(vectors - texts) // EMBED_BATCH) + reranks,
        )

    def run(self, advance: Callable[[int], Any]) -> CellResult:
        """All stages. A query that fails is recorded and the next goes on; `advance(1)` after each query of a stage."""
        result = CellResult(dataset=self.dataset_spec.name, arm=self.arm.name)
        result.chunks = self.chunks
        if self.bare_embedder is not None:
            result.fingerprint = self.bare_embedder.fingerprint
        result.reranker_fingerprint = reranker_fingerprint(self.arm.reranker)
        packed = self.cache.get_blob(self.whole_key)
        if packed is not None:
            result.hits = unpack(packed)
            result.costs |= {"queries_from_cache": len(result.hits), "queries_run": 0}
            advance(len(result.hits) * (2 if self.arm.reranker else 1))
        else:
            hits = self._retrieve(result, advance)
            if self.arm.reranker:
                hits = self._rerank(hits, result, advance)
            result.hits = {name: [(h.chunk.id, h.score) for h in found] for name, found in hits.items()}
            if not result.failed:
                self.cache.put_blob(self.whole_key, "cell", pack(result.hits))
        result.spec = self._spec()
        result.latency_ms, result.latency_from_cache = time_queries(self) if not result.failed else ([], False)
        result.costs |= self.usage.costs()
        self.cache.commit()
        return result

    def _spec(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "chunker": spec_of(create("chunker", self.arm.chunker)),
            "retriever": self.arm.retriever,
        }
        if self.bare_embedder is not None:
            parts["embedder"] = spec_of(self.bare_embedder)
        if self.arm.reranker:
            # Its own arguments, if it was needed; what the suite names, if all its answers were in the cache.
            made = self.__dict__.get("reranker")
            named = spec_of(made) if made is not None else self.arm.reranker
            parts["reranker"] = {key: value for key, value in named.items() if key != "sequences"}
            parts["rerank_top"] = self.arm.rerank_top
        return parts

    def _retrieve(self, result: CellResult, advance: Callable[[int], Any]) -> dict[str, list[Hit]]:
        keys = {query.id: self.hits_key(query) for query in self.queries}
        known = self.cache.get_many(list(keys.values()))
        by_id = {chunk.id: chunk for chunk in self.chunks}
        found = {q.id: _hits(known[keys[q.id]], by_id) for q in self.queries if keys[q.id] in known}
        advance(len(found))
        todo = [query for query in self.queries if query.id not in found]
        result.costs |= {"queries_from_cache": len(found), "queries_run": len(todo)}
        if not todo:
            return found
        retriever = self._indexed(todo, result)
        started = time.perf_counter()
        for query in todo:
            try:
                hits = retriever.retrieve(self.query_of(query), self.suite.k)
            except Exception as error:  # noqa: BLE001 - one query's fault must not end the run; it counts 0 and is listed
                result.failed[query.id] = reason(error)
            else:
                found[query.id] = hits
                self.cache.put(keys[query.id], "hits", [(h.chunk.id, h.score) for h in hits])
            advance(1)
        self.cache.commit()
        result.costs["retrieve_s"] = time.perf_counter() - started
        return found

    def _indexed(self, todo: Sequence[EvalQuery], result: CellResult) -> Retriever:
        """Embed in batches that the cache keeps one by one, then build the index from the cache."""
        started = time.perf_counter()
        if self.embedder is not None:
            texts = list(dict.fromkeys(chunk.searchable for chunk in self.chunks))
            for i in range(0, len(texts), EMBED_BATCH):
                self.embedder.embed_documents(texts[i : i + EMBED_BATCH])
            asked = list(dict.fromkeys(query.text for query in todo))
            for i in range(0, len(asked), EMBED_BATCH):
                self.embedder.embed_queries(asked[i : i + EMBED_BATCH])
            result.costs |= {"texts_embedded": self.embedder.misses, "embed_s": time.perf_counter() - started}
        started = time.perf_counter()
        retriever = self.retriever(self.embedder)
        retriever.index(self.chunks)
        result.costs["index_s"] = time.perf_counter() - started
        return retriever

    def _rerank(
        self, hits: dict[str, list[Hit]], result: CellResult, advance: Callable[[int], Any]
    ) -> dict[str, list[Hit]]:
        assert self.reranker is not None  # noqa: S101 - run() asks first; this tells the type checker
        top = self.arm.rerank_top
        heads = {q.id: hits[q.id][:top] for q in self.queries if hits.get(q.id)}
        keys = {q.id: self.rerank_key(q, heads[q.id]) for q in self.queries if q.id in heads}
        known = self.cache.get_many(list(keys.values()))
        out, pairs, started = dict(hits), 0, time.perf_counter()
        for query in self.queries:
            advance(1)
            if query.id not in keys:
                continue
            by_id = {hit.chunk.id: hit.chunk for hit in heads[query.id]}
            if keys[query.id] in known:
                order = _hits(known[keys[query.id]], by_id)
            else:
                before = tokens_read(self.reranker)
                try:
                    order = ranked(self.reranker.rerank(self.query_of(query), heads[query.id], top))
                except Exception as error:  # noqa: BLE001 - as above: the query fails, the run goes on
                    result.failed[query.id] = reason(error)
                    del out[query.id]
                    continue
                finally:
                    self.usage.add(len(heads[query.id]), before, tokens_read(self.reranker))
                pairs += len(heads[query.id])
                self.cache.put(keys[query.id], "rerank", [(h.chunk.id, h.score) for h in order])
            out[query.id] = _below(order, hits[query.id])
        self.cache.commit()
        result.costs |= {"pairs_reranked": pairs, "rerank_s": time.perf_counter() - started}
        return out


def reason(error: Exception) -> str:
    """An error as one short line for tables; its traceback goes to the log."""
    if not isinstance(error, SmartMemError):
        log.warning("an evaluation step failed", exc_info=error)
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]


def _hits(rows: Sequence[Sequence[Any]], by_id: dict[str, Chunk]) -> list[Hit]:
    return [Hit(by_id[name], float(score)) for name, score in rows]


def _below(order: Sequence[Hit], before: Sequence[Hit]) -> list[Hit]:
    """The reranked head, then the rest in the retriever's order under it, so that recall at depth stays comparable."""
    seen = {hit.chunk.id for hit in order}
    floor = min((hit.score for hit in order), default=0.0)
    rest = [hit for hit in before if hit.chunk.id not in seen]
    return [*order, *(hit.with_score(floor - place) for place, hit in enumerate(rest, start=1))]
