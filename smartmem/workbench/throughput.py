"""How fast messages become memories: made-up messages through the real chain, measured from its own history.

with smartmem.open(url, embedder={"name": "mock"}, jobs={"batch": 50}) as bench:
    work_through(bench, messages=500, users=25, workers=2).jobs_per_s
"""

from __future__ import annotations

import threading
import time
import uuid
from typing import TYPE_CHECKING

from smartmem.chat.history import NewMessage, append_messages
from smartmem.errors import Unmeasurable
from smartmem.evaluation.write_path import WritePath, write_path

if TYPE_CHECKING:
    from smartmem.workbench import Workbench

DEADLINE_S = 300.0
LOOK_S = 0.02


def work_through(bench: Workbench, *, messages: int, users: int, workers: int = 1) -> WritePath:
    """Append `messages` of `users` people, then relay and work them with so many worker threads; jobs of this call
    only. The clock runs from the first job's birth, so appending is not part of it.

    Every call takes new conversations, so it may be repeated on one database. Raises `Unmeasurable` when the work is
    not done within five minutes.
    """
    since = bench.db.now()
    name = uuid.uuid4().hex
    append_messages(
        bench.db,
        [
            NewMessage(
                user_id=1 + number % users,
                conversation_id=f"load-{name}-{number % users}",
                role="user",
                content=f"Please remember that locker {number} in hall {name} is mine.",
                occurred_at=since,
            )
            for number in range(messages)
        ],
    )
    _work(bench, workers)
    history = bench.job_history().to_frame()
    mine = history[history["job_id"].isin(history.loc[history["at"] >= since, "job_id"])]
    waits = bench.memory_latency()
    return write_path(mine, waits[waits["message_at"] >= since])


def _work(bench: Workbench, workers: int) -> None:
    stop = threading.Event()
    poll_s = bench.settings.jobs.poll_s
    relay = bench.runner.relay()
    made = [bench.runner.worker() for _ in range(workers)]
    threads = [threading.Thread(target=relay.run, args=(stop,), kwargs={"poll_s": poll_s}, name="relay")]
    threads += [threading.Thread(target=worker.run, args=(stop,), name=f"worker-{n}") for n, worker in enumerate(made)]
    end = time.monotonic() + DEADLINE_S
    for thread in threads:
        thread.start()
    try:
        while left := _unfinished(bench):
            if time.monotonic() > end or not any(thread.is_alive() for thread in threads):
                raise Unmeasurable(f"{left} events and jobs are not done after {DEADLINE_S:.0f} s; see bench.status()")
            time.sleep(LOOK_S)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _unfinished(bench: Workbench) -> int:
    # Events first: an event that is consumed in between has its job by the time the jobs are counted.
    return bench.outbox.depth(finished=False).unfinished + bench.jobs.depth(finished=False).unfinished
