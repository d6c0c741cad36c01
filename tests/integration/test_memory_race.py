"""Eight processes write the same fact at the same moment: the database lets one of them, and one audit row, stand."""

from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Barrier
from typing import Any

from sqlalchemy import func, select

from smartmem.db.engine import Database
from smartmem.db.tables import memory_audit_logs, memory_items
from smartmem.memory.apply import Changes, Origin, new_item
from tests.support.memory import fact

WRITERS = 8
ROUNDS = 5


def _write(url: str, barrier: Barrier, results: Any) -> None:
    db = Database.open(url)
    created = 0
    for turn in range(ROUNDS):
        said = fact(f"I live in Leeds, round {turn}")
        barrier.wait(60)

        def work(conn: Any, said: Any = said) -> int:
            changes = Changes(db, db.now())
            changes.create(new_item(said, Origin(user_id=1, trace_id="race"), db.now()), "race")
            return len(changes.flush(conn))

        created += db.run(work)
    db.close()
    results.put(created)


def test_one_of_eight_processes_makes_the_memory(any_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(WRITERS), context.Queue()
    writers = [context.Process(target=_write, args=(any_url, barrier, results)) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    assert sum(results.get() for _ in range(WRITERS)) == ROUNDS
    db = Database.open(any_url)
    with db.read() as conn:
        for table in (memory_items, memory_audit_logs):
            assert conn.execute(select(func.count()).select_from(table)).scalar_one() == ROUNDS
    db.close()
