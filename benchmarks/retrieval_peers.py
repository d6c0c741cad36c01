"""The same turns and vectors in other stores: what `retrieval.py` compares with, run by a Python of their own.

    python benchmarks/retrieval.py --only peers     # makes the environment .peers-retrieval (600 MB) the first time

Knows nothing of smartmem: the peers' packages are no dependencies of it. Reads a folder with vectors.npy (n, dim),
queries.npy and turns.json; writes each store on disk there. LanceDB searches exactly (it has no index unless asked),
Chroma by HNSW with its defaults. All filter by user, as a chat memory does.

Prints one line of JSON: turns/s of ingest, MB by which the process grew (Linux), p50 ms of a user's query, recall@10
against exact search; or why it could not run.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Find = Callable[[Any, int], list[int]]
BATCH = 5000  # Chroma takes at most 5,461 rows a call


def chroma(vectors: Any, turns: list[dict[str, Any]], folder: Path) -> Find:
    import chromadb
    from chromadb.config import Settings

    client = chromadb.PersistentClient(path=str(folder / "chroma"), settings=Settings(anonymized_telemetry=False))
    made = client.create_collection("turns", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None)
    for at in range(0, len(turns), BATCH):
        part = turns[at : at + BATCH]
        made.add(
            ids=[str(at + i) for i in range(len(part))],
            embeddings=vectors[at : at + BATCH],
            documents=[turn["text"] for turn in part],
            metadatas=[{"user_id": turn["user_id"]} for turn in part],
        )

    def find(query: Any, user: int) -> list[int]:
        found = made.query(query_embeddings=[query], n_results=10, where={"user_id": user}, include=["documents"])
        return [int(id) for id in found["ids"][0]]

    return find


def lancedb(vectors: Any, turns: list[dict[str, Any]], folder: Path) -> Find:
    import lancedb as peer
    import pyarrow

    database = peer.connect(str(folder / "lance"))
    table = None
    for at in range(0, len(turns), BATCH):
        part = turns[at : at + BATCH]
        flat = pyarrow.array(vectors[at : at + BATCH].reshape(-1))
        rows = pyarrow.table(
            {
                "id": pyarrow.array(range(at, at + len(part))),
                "user_id": [turn["user_id"] for turn in part],
                "text": [turn["text"] for turn in part],
                "vector": pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
            }
        )
        if table is None:
            table = database.create_table("turns", rows)
        else:
            table.add(rows)
    assert table is not None
    table.create_scalar_index("user_id")

    def find(query: Any, user: int) -> list[int]:
        wanted = table.search(query).distance_type("cosine").where(f"user_id = {user}", prefilter=True)
        return [row["id"] for row in wanted.select(["id", "text"]).limit(10).to_list()]

    return find


PEERS = {"chroma": chroma, "lancedb": lancedb}


def peak_mb() -> float:
    """Of this program: getrusage's figure is the parent's where that was larger."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(name: str, folder: Path) -> None:
    vectors, queries = np.load(folder / "vectors.npy"), np.load(folder / "queries.npy")
    turns = json.loads((folder / "turns.json").read_text())
    users = np.array([turn["user_id"] for turn in turns])
    before = peak_mb()
    begun = time.perf_counter()
    try:
        find = PEERS[name](vectors, turns, folder)
    except ImportError as error:
        print(json.dumps({"skipped": str(error)}))
        return
    seconds = time.perf_counter() - begun
    taken, right = [], []
    for i, query in enumerate(queries):
        user = i % (int(users.max()) + 1)
        begun = time.perf_counter()
        found = find(query, user)
        taken.append((time.perf_counter() - begun) * 1e3)
        mine = np.flatnonzero(users == user)
        best = mine[np.argsort(-(vectors[mine] @ query))[:10]]
        right.append(len(set(found) & set(best.tolist())) / len(best))
    figures = {
        "turns/s": len(turns) / seconds,
        "grown by, MB": peak_mb() - before,
        "a user's query, p50 ms": statistics.median(taken),
        "recall@10 against exact": statistics.fmean(right),
    }
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    measure(sys.argv[1], Path(sys.argv[2]))
