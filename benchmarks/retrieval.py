"""Speed of the retrieval core, as ratios measured in one run.

    python benchmarks/retrieval.py --quick            # about a minute
    python benchmarks/retrieval.py --json out.json    # with a million vectors, and beside Chroma and LanceDB
    python benchmarks/retrieval.py --only encoding exact
    python benchmarks/retrieval.py --only peers --turns 20000

Texts are made up here (seeded), so that it runs anywhere. A machine that does other work at the same time gives other
milliseconds; the ratios move less. The peers get an environment of their own, .peers-retrieval beside this folder, made
the first time (600 MB); --quick leaves them out unless it is there.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from smartmem.errors import SmartMemError
from smartmem.rag.models import fetch
from smartmem.rag.pipeline import Pipeline
from smartmem.rag.presets import preset_names
from smartmem.rag.protocols import Vectors
from smartmem.rag.registry import create
from smartmem.rag.types import Chunk, Document, Filter

DIM = 384
PEER_PACKAGES = ("chromadb==1.5.9", "lancedb==0.40.0")
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


def unit_rows(rng: np.random.Generator, n: int) -> Vectors:
    rows = rng.standard_normal((n, DIM), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def encoding(quick: bool) -> dict[str, Any]:
    """Texts a second, called in turns: one model, all-MiniLM-L6-v2, by sentence-transformers and by us. Cosines are to
    its float32 vectors. bge-small has twice the layers."""
    rng = np.random.default_rng(0)
    texts = [sentence(rng, int(n)) for n in rng.integers(5, 60, 64 if quick else 200)]
    specs = {
        "MiniLM, torch fp32": {"name": "sentence-transformers"},
        "MiniLM, torch bf16": {"name": "sentence-transformers", "bf16": True},
        "MiniLM, onnx int8": {"name": "onnx", "model": "all-MiniLM-L6-v2"},
        "bge-small, onnx int8": {"name": "onnx", "model": "bge-small-en"},
    }
    try:
        arms = {name: create("embedder", spec) for name, spec in specs.items()}
    except SmartMemError as error:  # torch is optional here
        return {"not measured": str(error)}
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(3 if quick else 9):
        for name, embedder in arms.items():
            started = time.perf_counter()
            embedder.embed_documents(texts)
            taken[name].append(time.perf_counter() - started)
    slow, *others = arms
    truth = arms[slow].embed_documents(texts)
    out: dict[str, Any] = {f"{name}, texts/s": len(texts) / statistics.median(taken[name]) for name in arms}
    for name in others[:2]:
        cosines = (truth * arms[name].embed_documents(texts)).sum(1)
        ratios = [a / b for a, b in zip(taken[slow], taken[name], strict=True)]
        out[f"{name} / torch fp32, median of rounds"] = statistics.median(ratios)
        out |= {
            f"{name}, mean cosine": float(cosines.mean()),
            f"{name}, 1st percentile": float(np.quantile(cosines, 0.01)),
        }
    return out


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


def peers(n: int, python: Path) -> dict[str, Any]:
    """The same turns and vectors into stores on disk, and a user's queries with the texts found."""
    documents, rng = turns(n, 50), np.random.default_rng(4)
    vectors, queries = unit_rows(rng, n), unit_rows(rng, 100)
    out: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        np.save(folder / "vectors.npy", vectors)
        np.save(folder / "queries.npy", queries)
        told = [{"text": d.text, "user_id": d.metadata["user_id"]} for d in documents]
        (folder / "turns.json").write_text(json.dumps(told))
        for name in ("smartmem", "chroma", "lancedb"):
            command = [sys.executable, __file__, "--store", scratch]
            if name != "smartmem":
                command = [str(python), str(Path(__file__).with_name("retrieval_peers.py")), name, scratch]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            answer = json.loads(done.stdout.splitlines()[-1])
            out |= {f"{name}: {key}": value for key, value in answer.get("figures", answer).items()}
    return out


def own_store(folder: Path) -> None:
    """Our part of `peers`, in a process of its own like theirs; prints its line."""
    import retrieval_peers as other  # beside this file, hence on the path of a script

    def smartmem(vectors: Vectors, told: list[dict[str, Any]], folder: Path) -> other.Find:
        store = create("store", {"name": "memory", "path": str(folder / "ours.db")}, dim=DIM)
        for at in range(0, len(told), other.BATCH):
            part = told[at : at + other.BATCH]
            store.upsert([_chunk(at + i, turn) for i, turn in enumerate(part)], vectors[at : at + other.BATCH])
        return lambda query, user: [int(h.chunk.id) for h in store.search(query, 10, Filter.where(user_id=user))]

    other.PEERS["smartmem"] = smartmem
    other.measure("smartmem", folder)


def _chunk(i: int, turn: dict[str, Any]) -> Chunk:
    text = turn["text"]
    metadata = {"user_id": turn["user_id"]}
    return Chunk(id=str(i), document_id=str(i), start=0, end=len(text), text=text, order=0, metadata=metadata)


def peers_environment(quick: bool) -> Path | None:
    """The Python that has the peers; None where a quick run finds none."""
    home = Path(__file__).parents[1] / ".peers-retrieval"
    python = home / "bin/python"
    if not python.exists() and not quick:
        print(f"making {home} for the peers")
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEER_PACKAGES], check=True)
    return python if python.exists() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, about a minute")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument(
        "--only", nargs="+", choices=["exact", "presets", "ingest", "encoding", "peers"], help="these parts"
    )
    parser.add_argument("--turns", type=int, help="how many are ingested  [default: 100000, with --quick 5000]")
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)  # a child's: see own_store
    arguments = parser.parse_args()
    if arguments.store:
        own_store(arguments.store)
        return
    quick: bool = arguments.quick
    n: int = arguments.turns or (5_000 if quick else 100_000)
    wanted: list[str] = arguments.only or ["exact", "presets", "ingest", "encoding", "peers"]
    parts: dict[str, Callable[[], dict[str, Any]]] = {}
    if "exact" in wanted:
        sizes = [(10_000, 5)] if quick else [(10_000, 5), (100_000, 50), (1_000_000, 500)]
        parts |= {f"exact store, {m:,} x {DIM}": lambda m=m, u=u: exact_store(m, u) for m, u in sizes}
    if "presets" in wanted:
        for model in ("bge-small-en", "colbert-small-en", "reranker-en"):
            fetch(model)
        parts["presets"] = lambda: presets(quick)
    if "ingest" in wanted:
        parts["ingest"] = lambda: ingest(n)
    if "encoding" in wanted:
        for model in ("bge-small-en", "all-MiniLM-L6-v2"):
            fetch(model)
        parts["encoding"] = lambda: encoding(quick)
    if "peers" in wanted and (python := peers_environment(quick)):
        parts["peers"] = lambda: peers(n, python)
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
