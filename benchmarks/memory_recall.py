"""Recall latency with 10,000 memories of one user, and the Python cost of the write path a message.

    python benchmarks/memory_recall.py [--database URL] [--memories 10000] [--quick]

Prints p50 and p95 a mode with the CPU time of this process (which a loaded machine hardly changes), the tokens that the
last query would inject, and microseconds a message of prepare + apply (legacy mode, mock extractor, batches of 200).
"""

from __future__ import annotations

import argparse
import datetime as dt
import random
import tempfile
import time
from pathlib import Path

from smartmem.clock import UTC
from smartmem.db.engine import Database
from smartmem.jobs.types import Job
from smartmem.memory.extract import create_extractor
from smartmem.memory.handler import ExtractHandler
from smartmem.memory.recall import Recaller
from smartmem.memory.reconcile import reconcile
from smartmem.rag.registry import create
from smartmem.settings import WriteSettings

START = dt.datetime(2026, 1, 1, tzinfo=UTC)
WORDS = (
    "garden cello bakery harbour winter bicycle library soup mountain letter window violin market station river lamp "
    "cousin pottery jazz marathon museum orchard teacher ladder blanket notebook ferry engine lantern"
)


def job(number: int, rng: random.Random) -> Job:
    words = " ".join(rng.sample(WORDS.split(), 6))
    text = f"I remember the {words} of the year {number}, and that it rained for most of the afternoon."
    return Job(
        id=number,
        user_id=1,
        conversation_id="c1",
        source_message_id=None,
        source_event_id=None,
        job_type="extract",
        idempotency_key=f"k{number}",
        payload={"user_id": 1, "source_text": text, "occurred_at": (START + dt.timedelta(minutes=number)).isoformat()},
        trace_id=f"t{number}",
        attempt=1,
        max_retry=6,
        created_at=START,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", default=None)
    parser.add_argument("--memories", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--quick", action="store_true", help="2,000 memories, 20 queries")
    options = parser.parse_args()
    if options.quick:
        options.memories, options.queries = 2000, 20
    with tempfile.TemporaryDirectory() as folder:
        db = Database.open(options.database or f"sqlite:///{Path(folder)}/bench.db")
        db.migrate()
        rng = random.Random(7)
        handler = ExtractHandler(db, create_extractor("mock"), write=WriteSettings(mode="legacy"))
        spent = 0.0
        for first in range(1, options.memories + 1, 200):
            jobs = [job(number, rng) for number in range(first, first + 200)]
            begin = time.process_time()
            prepared = handler.prepare(jobs)
            with db.begin() as conn:
                handler.apply(conn, prepared)  # type: ignore[arg-type]  # none of these fails
            spent += time.process_time() - begin
        print(f"prepare + apply: {spent / options.memories * 1e6:.0f} us of CPU a message")
        embedder = create("embedder", {"name": "mock", "dim": 384})
        store = create("store", {"name": "memory"}, dim=embedder.dim)
        reconcile(db, store, embedder)
        recaller = Recaller(db, store, embedder)
        for mode in ("legacy", "rag", "hybrid"):
            taken, cpu = [], time.process_time()
            for _ in range(options.queries):
                query = f"What about the {rng.choice(WORDS.split())} and the {rng.choice(WORDS.split())}?"
                begin = time.perf_counter()
                found = recaller.recall(1, query, mode=mode, touch=False)
                taken.append((time.perf_counter() - begin) * 1000)
            taken.sort()
            p50, p95 = (taken[int(len(taken) * share)] for share in (0.5, 0.95))
            cpu = (time.process_time() - cpu) / len(taken) * 1000
            print(f"{mode}: p50 {p50:.1f} ms, p95 {p95:.1f} ms, CPU {cpu:.1f} ms, {found.tokens} tokens injected")
        db.close()


if __name__ == "__main__":
    main()
