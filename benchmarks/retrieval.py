"""Speed of the retrieval core, as ratios measured in one run.

    python benchmarks/retrieval.py --quick            # about a minute
    python benchmarks/retrieval.py --json out.json    # with a million vectors

Texts are made up here (seeded), so that it runs anywhere. A machine that does other work at the same time gives other
milliseconds; the ratios move less.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from smartmem.rag.models import fetch
from smartmem.rag.pipeline import Pipeline
from smartmem.rag.presets import preset_names
from smartmem.rag.protocols import Vectors
from smartmem.rag.registry import create
from smartmem.rag.types import Chunk, Document, Filter

DIM = 384
TEXT = (
    "we went to the lake with friends and my sister cooked dinner while it rained so I read a book about painting "
    "the dog ran away last May but came back after two weeks work was hard this month because the new project started "
    "yoga helps me sleep and the children like pottery classes on Saturday morning before we visit grandma in the city"
)
WORDS = TEXT.split()


def sentence(rng: np.random.Generator, words: int) -> str:
    return " ".join(rng.choice(WORDS, size=words))


def p50(action: Callable[[], object], times: int) -> float:
    """Median milliseconds of `times` calls, after two that do not count."""
    for _ in range(2):
        action()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        action()
        taken.append((time.perf_counter() - started) * 1e3)
    return statistics.median(taken)


def side_by_side(one: Callable[[], object], other: Callable[[], object], times: int) -> tuple[float, float]:
    """Median milliseconds of both, called in turns, so that what else the machine does falls on both alike."""
    taken: tuple[list[float], list[float]] = ([], [])
    for i in range(times + 2):
        for action, times_taken in zip((one, other), taken, strict=True):
            started = time.perf_counter()
            action()
            if i >= 2:
                times_taken.append((time.perf_counter() - started) * 1e3)
    return statistics.median(taken[0]), statistics.median(taken[1])


def rate(action: Callable[[], object], items: int) -> float:
    action()
    started = time.perf_counter()
    action()
    return items / (time.perf_counter() - started)


def unit_rows(rng: np.random.Generator, n: int) -> Vectors:
    rows = rng.standard_normal((n, DIM), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def encoding(quick: bool) -> dict[str, Any]:
    """Texts a second; bf16 against fp32 of the same model on the same texts, and the cosine between them."""
    rng = np.random.default_rng(0)
    texts = [sentence(rng, int(n)) for n in rng.integers(5, 60, 64 if quick else 400)]
    out: dict[str, Any] = {"onnx bge-small int8, texts/s": rate(_embed({"name": "onnx"}, texts), len(texts))}
    try:
        plain = create("embedder", {"name": "sentence-transformers"})
        fast = create("embedder", {"name": "sentence-transformers", "bf16": True})
    except Exception as error:  # noqa: BLE001 - torch is optional here; the reason is printed
        return {**out, "sentence-transformers": f"not measured: {error}"}
    slow = rate(lambda: plain.embed_documents(texts), len(texts))
    quickly = rate(lambda: fast.embed_documents(texts), len(texts))
    cosine = (plain.embed_documents(texts) * fast.embed_documents(texts)).sum(1)
    out |= {"MiniLM torch fp32, texts/s": slow, "MiniLM torch bf16, texts/s": quickly}
    return out | {"bf16 / fp32, same model": quickly / slow, "least cosine": float(cosine.min())}


def _embed(spec: dict[str, Any], texts: list[str]) -> Callable[[], object]:
    embedder = create("embedder", spec)
    return lambda: embedder.embed_documents(texts)


def exact_store(n: int, users: int) -> dict[str, Any]:
    """One search over all, against a bare matrix-vector product with argpartition; and a search in one user's part."""
    rng = np.random.default_rng(1)
    rows, query = unit_rows(rng, n), unit_rows(rng, 1)[0]
    times = 30 if n <= 100_000 else 10
    whole = _filled(rows, users=1)
    bare, mine = side_by_side(
        lambda: np.argpartition(rows @ query, n - 10)[n - 10 :], lambda: whole.search(query, 10, Filter()), times
    )
    out = {"BLAS + argpartition, ms": bare, "memory store, ms": mine, "ratio": mine / bare}
    if users > 1:
        split = _filled(rows, users=users)
        filter = Filter.where(user_id=users // 2)
        out[f"one of {users} users, ms"] = p50(lambda: split.search(query, 10, filter), 100)
    return out


def _filled(rows: Vectors, *, users: int) -> Any:
    store = create("store", "memory", dim=DIM)
    for start in range(0, len(rows), 50_000):
        part = rows[start : start + 50_000]
        chunks = [
            Chunk(id=f"c{i:07}", document_id="d", start=0, end=1, text="x", order=0, metadata={"user_id": i % users})
            for i in range(start, start + len(part))
        ]
        store.upsert(chunks, part)
    return store


def turns(n: int, users: int) -> list[Document]:
    rng = np.random.default_rng(2)
    return [
        Document(
            id=f"u{i % users}-{i // users}",
            text=sentence(rng, int(rng.integers(6, 40))),
            metadata={
                "user_id": i % users, "session_id": f"s{i // users // 20}", "turn": i // users % 20, "speaker": "Ann",
                "date": "8 May, 2023",
            },
        )
        for i in range(n)
    ]  # fmt: skip


def presets(quick: bool) -> dict[str, Any]:
    """A query of each preset over one user's 600 turns among ten users', its embedding included."""
    documents = turns(600 if quick else 6000, 1 if quick else 10)
    rng = np.random.default_rng(3)
    out: dict[str, Any] = {}
    for name in preset_names():
        pipeline = Pipeline.from_spec({"preset": name})
        pipeline.ingest(documents)
        ask = lambda p=pipeline: p.retrieve(sentence(rng, 9), filter=Filter.where(user_id=0))  # noqa: E731
        out[f"{name}, p50 ms"] = p50(ask, 5 if quick or name == "quality" else 20)
    reranker = create("reranker", {"name": "cross-encoder", "candidates": 30})
    hits = pipeline.retriever.retrieve(pipeline.retrieve("my sister", filter=Filter.where(user_id=0)).query, 30)
    query = pipeline.retrieve("my sister").query
    out["rerank 30, p50 ms"] = p50(lambda: reranker.rerank(query, hits, 10), 5)
    hurried = create("reranker", {"name": "cross-encoder", "candidates": 30, "time_budget_ms": 50})
    out["rerank 30 with a budget of 50 ms, p50 ms"] = p50(lambda: hurried.rerank(query, hits, 10), 5)
    return out


def ingest(n: int) -> dict[str, Any]:
    """Turns a second into BM25 and the durable exact store, vectors from the mock embedder: the index's own cost."""
    documents = turns(n, 50)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spec = {"embedder": {"name": "mock", "dim": DIM}, "retriever": "hybrid"}
    pipeline = Pipeline.from_spec(spec)
    started = time.perf_counter()
    pipeline.ingest(documents)
    seconds = time.perf_counter() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    ask = lambda: pipeline.retrieve("my sister came back in May", filter=Filter.where(user_id=7))  # noqa: E731
    return {"turns": n, "turns/s": n / seconds, "grown by, MB": grown, "hybrid query, p50 ms": p50(ask, 30)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, about a minute")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    quick: bool = arguments.quick
    for model in ("bge-small-en", "colbert-small-en", "reranker-en"):
        fetch(model)
    sizes = [(10_000, 5)] if quick else [(10_000, 5), (100_000, 50), (1_000_000, 500)]
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        **{f"exact store, {n:,} x {DIM}": lambda n=n, u=u: exact_store(n, u) for n, u in sizes},
        "presets": lambda: presets(quick),
        "ingest": lambda: ingest(5_000 if quick else 100_000),
        "encoding": lambda: encoding(quick),
    }
    figures: dict[str, dict[str, Any]] = {}
    for title, measure in parts.items():
        figures[title] = measure()
        print(title)
        for name, value in figures[title].items():
            print(f"  {name:45} {value if isinstance(value, str | int) else round(value, 3)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
