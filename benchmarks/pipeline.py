"""How fast the durable pipeline is, against the way it replaces and against the bare limit. Run it by hand:

    python benchmarks/pipeline.py [--quick] [--json FILE] [--only PART …] [--database sqlite|mariadb]
                                  [--peers-python .peers/bin/python]

Every figure is the median of interleaved rounds of one run; the ratios are what travels between machines. Durable
settings: SQLite WAL with synchronous=FULL, MariaDB with innodb_flush_log_at_trx_commit=1 (its own private server).

Parts: chain (message → item), jobs (no-op jobs), append (single messages), growth (claims in large tables),
memory (a worker over many jobs), peers (the same no-op jobs through huey, dramatiq and PgQueuer, in the same rounds;
they live in an environment of their own, see pipeline_peers.py, and are skipped with the reason where they are not).
What is "alone" is the same statements and commits without our Python, see statements.py.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import functools
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests.support has the private server

import statements
from sqlalchemy import delete, insert, text
from sqlalchemy.engine import Connection
from uuid_utils import uuid7

from smartmem.chat import history
from smartmem.clock import UTC
from smartmem.db import hot
from smartmem.db.engine import Database
from smartmem.db.leases import JOBS, Leases
from smartmem.db.tables import memory_items, memory_jobs, metadata
from smartmem.jobs import enqueue
from smartmem.jobs.queue import enqueue as enqueue_jobs
from smartmem.jobs.types import Job, NewJob, Prepared
from smartmem.jobs.worker import Worker
from smartmem.outbox.events import EventRegistry
from smartmem.outbox.relay import Relay
from smartmem.settings import ExtractSettings, JobSettings, OutboxSettings

NOW = dt.datetime.now(UTC)
USERS = 200
# The targets of the issue: (part, database, figure) → messages or jobs a second, or a ratio.
TARGETS = {
    ("chain", "mariadb", "100 a transaction"): 8_000,
    ("chain", "sqlite", "100 a transaction"): 20_000,
    ("jobs", "mariadb", "processed"): 20_000,
    ("jobs", "sqlite", "processed"): 40_000,
    ("append", "sqlite", "8 callers"): 12_000,
}


ITS_OWN = ("id", "user_id", "active_hash", "source_job_id")  # what two items of this benchmark differ in


class OneFact:
    """The extractor that costs nothing: one fact a message, written set-based."""

    job_type, sequential = "extract", False

    def prepare(self, jobs: Sequence[Job]) -> Sequence[Prepared | Exception]:
        return [Prepared(job=job, outcome="facts") for job in jobs]

    def apply(self, conn: Connection, done: Sequence[Prepared]) -> Sequence[Prepared]:
        same = item(0, 0)
        for name in ITS_OWN:
            del same[name]
        rows = [(id_ := str(uuid7()), one.job.user_id, id_, one.job.id) for one in done]
        hot.insert_rows(conn, memory_items, same, ITS_OWN, rows)
        return done


class Nothing(OneFact):
    def apply(self, conn: Connection, done: Sequence[Prepared]) -> Sequence[Prepared]:
        return done


def item(user_id: int, job_id: int) -> dict[str, Any]:
    id_ = str(uuid7())
    return {
        "id": id_, "namespace": "default", "user_id": user_id, "memory_type": "fact", "title": "tea",
        "content": "likes green tea", "content_hash": "h", "active_hash": id_, "language": "en", "confidence": 0.6,
        "importance": 0.6, "sensitivity_level": 0, "is_explicit": False, "status": "active", "version": 1,
        "vector_status": "pending", "valid_from": NOW, "source_job_id": job_id, "trace_id": "t", "created_at": NOW,
        "updated_at": NOW,
    }  # fmt: skip


def messages(count: int) -> list[history.NewMessage]:
    return [
        history.NewMessage(
            user_id=1 + n % USERS,
            conversation_id=f"c{n % USERS}",
            role="user",
            content=f"I like green tea number {n}",
            occurred_at=NOW,
        )
        for n in range(count)
    ]


def empty(db: Database) -> None:
    with db.begin() as conn:
        if db.dialect == "mysql":
            conn.execute(text("SET FOREIGN_KEY_CHECKS=0"))
        for table in reversed(metadata.sorted_tables):
            conn.execute(text(f"TRUNCATE TABLE {table.name}") if db.dialect == "mysql" else delete(table))
        if db.dialect == "mysql":
            conn.execute(text("SET FOREIGN_KEY_CHECKS=1"))


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


# --- message → item -------------------------------------------------------------------------------------------------


def ours(db: Database, count: int, batch: int) -> float:
    """All guarantees on: fences, order per user, the history of states. Stages in sequence."""
    wanted = messages(count)
    jobs, outbox = JobSettings(batch=500), OutboxSettings()  # jobs that are SQL only: see JobSettings.batch
    registry = EventRegistry()
    enqueue.register(registry, ExtractSettings(), jobs)
    relay, worker = Relay(db, registry, outbox), Worker(db, [OneFact()], jobs)

    def chain() -> None:
        history.append_messages(db, wanted, batch=batch)
        relay.drain()
        worker.drain()

    seconds = timed(chain)
    worker.close()
    with db.read() as conn:
        assert conn.execute(text("SELECT COUNT(*) FROM memory_items")).scalar() == count
    return count / seconds


def seed(db: Database, count: int) -> float:
    """The way this replaces: one row a transaction, FOR UPDATE without SKIP LOCKED, four workers."""
    lock = "" if db.dialect == "sqlite" else " FOR UPDATE"

    def produce(conn: Connection, n: int) -> None:
        user = 1 + n % USERS
        ignore = "INSERT OR IGNORE" if db.dialect == "sqlite" else "INSERT IGNORE"
        values = {"c": f"c{user}", "u": user, "t": NOW.replace(tzinfo=None), "i": str(uuid.uuid4()), "n": n}
        conn.execute(
            text(
                f"{ignore} INTO conversations (id,user_id,title,message_count,created_at,updated_at)"
                " VALUES (:c,:u,'',0,:t,:t)"
            ),
            values,
        )
        conn.execute(
            text(
                "INSERT INTO chat_messages"
                " (id,conversation_id,user_id,seq,role,content,occurred_at,trace_id,created_at)"
                " VALUES (:i,:c,:u,:n,'user','I like green tea',:t,'t',:t)"
            ),
            values,
        )
        conn.execute(
            text(
                "INSERT INTO outbox_messages (event_id,event_type,event_version,aggregate_type,aggregate_id,"
                "message_key,payload,trace_id,status,retry_count,max_retry,due_at,created_at)"
                " VALUES (:i,'e',1,'user',:u,:u,'{}','t','pending',0,20,:t,:t)"
            ),
            values,
        )

    def relay(conn: Connection) -> bool:
        row = conn.execute(
            text(
                f"SELECT id,event_id,message_key FROM outbox_messages WHERE status='pending' ORDER BY id LIMIT 1{lock}"
            )
        ).one_or_none()
        if row is None:
            return False
        values = {"i": row.id, "e": row.event_id, "u": int(row.message_key), "t": NOW.replace(tzinfo=None)}
        conn.execute(
            text(
                "INSERT INTO memory_jobs (user_id,job_type,idempotency_key,payload,trace_id,job_key,status,retry_count,"
                "max_retry,due_at,created_at,updated_at) VALUES (:u,'extract',:e,'{}','t',:u,'pending',0,6,:t,:t,:t)"
            ),
            values,
        )
        conn.execute(text("UPDATE outbox_messages SET status='consumed', consumed_at=:t WHERE id=:i"), values)
        return True

    def claim(conn: Connection) -> Any:
        row = conn.execute(
            text(f"SELECT id,user_id FROM memory_jobs WHERE status='pending' ORDER BY id LIMIT 1{lock}")
        ).one_or_none()
        if row is not None:
            conn.execute(text("UPDATE memory_jobs SET status='processing' WHERE id=:i"), {"i": row.id})
        return row

    def finish(conn: Connection, row: Any) -> None:
        conn.execute(insert(memory_items), [item(row.user_id, row.id)])
        values = {"i": row.id, "t": NOW.replace(tzinfo=None)}
        conn.execute(text("UPDATE memory_jobs SET status='success', finished_at=:t WHERE id=:i"), values)

    def relay_all() -> None:
        while db.run(relay, retries=50):
            pass

    def work_all() -> None:
        while (row := db.run(claim, retries=50)) is not None:
            db.run(lambda conn, row=row: finish(conn, row), retries=50)  # type: ignore[misc]

    def chain() -> None:
        for n in range(count):
            db.run(lambda conn, n=n: produce(conn, n))  # type: ignore[misc]
        in_threads(relay_all, 4)
        in_threads(work_all, 4)

    with status_index(db):
        return count / timed(chain)


@contextlib.contextmanager
def status_index(db: Database) -> Iterator[None]:
    """The index that such a queue has, and that this schema does without."""
    tables = ("outbox_messages", "memory_jobs")
    with db.begin() as conn:
        for table in tables:
            conn.execute(text(f"CREATE INDEX bench_{table} ON {table} (status, id)"))
    yield
    with db.begin() as conn:
        for table in tables:
            conn.execute(text(f"DROP INDEX bench_{table}" + (f" ON {table}" if db.dialect == "mysql" else "")))


def in_threads(work: Callable[[], object], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def raw(db: Database, count: int) -> float:
    """The limit: the same rows written once each, in batches of 200, and nothing else."""
    from smartmem.db.tables import chat_messages, outbox_messages

    with db.begin() as conn:
        conn.execute(
            insert(metadata.tables["conversations"]),
            [
                {"id": f"c{n}", "user_id": 1, "title": "", "message_count": 0, "created_at": NOW, "updated_at": NOW}
                for n in range(USERS)
            ],
        )

    def write() -> None:
        for start in range(0, count, 200):
            span = range(start, min(start + 200, count))
            ids = [str(uuid.uuid4()) for _ in span]
            with db.begin() as conn:
                conn.execute(
                    insert(chat_messages),
                    [
                        {"id": i, "conversation_id": f"c{n % USERS}", "user_id": 1, "seq": n, "role": "user",
                         "content": "I like green tea", "occurred_at": NOW, "trace_id": "t", "created_at": NOW}
                        for n, i in zip(span, ids, strict=True)
                    ],
                )  # fmt: skip
                conn.execute(
                    insert(outbox_messages),
                    [
                        {"event_id": i, "event_type": "e", "event_version": 1, "aggregate_type": "user",
                         "aggregate_id": "1", "message_key": "1", "payload": "{}", "trace_id": "t",
                         "status": "consumed", "retry_count": 0, "max_retry": 20, "created_at": NOW}
                        for i in ids
                    ],
                )  # fmt: skip
            with db.begin() as conn:
                conn.execute(insert(memory_jobs), [job_row(i, status="success") for i in ids])
            with db.begin() as conn:
                conn.execute(insert(memory_items), [item(1, n) for n in span])

    return count / timed(write)


def job_row(key: str, **changes: Any) -> dict[str, Any]:
    values = {
        "user_id": 1, "job_type": "extract", "idempotency_key": key, "payload": "{}", "trace_id": "t", "job_key": "u1",
        "status": "pending", "retry_count": 0, "max_retry": 6, "created_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    return values | changes


def part_chain(db: Database, quick: bool, rounds: int) -> dict[str, float]:
    count, single, slow = (4_000, 1_500, 400) if quick else (20_000, 20_000, 2_000)
    return interleaved(
        db,
        rounds,
        {
            "100 a transaction": lambda: ours(db, count, 100),
            "1 a transaction": lambda: ours(db, single, 1),
            "the seed's way": lambda: seed(db, slow),
            "raw batched writes": lambda: raw(db, count),
            "its statements alone": lambda: count / statements.alone(db, empty, lambda: ours(db, count, 100)),
        },
    )


# --- no-op jobs -----------------------------------------------------------------------------------------------------


def new_jobs(count: int) -> list[NewJob]:
    return [
        NewJob(
            user_id=1 + n % USERS,
            job_type="extract",
            idempotency_key=str(uuid.uuid4()),
            payload={"n": n},
            trace_id="t",
            order_key=f"u{n % USERS}",
        )
        for n in range(count)
    ]


def put(db: Database, count: int, batch: int) -> None:
    jobs = new_jobs(count)
    for start in range(0, count, batch):
        with db.begin() as conn:
            enqueue_jobs(conn, jobs[start : start + batch])


def drained(db: Database) -> float:
    """Seconds until a worker has done all that waits, and nothing for any of it."""
    worker = Worker(db, [Nothing()], JobSettings(batch=500))
    seconds = timed(worker.drain)
    worker.close()
    return seconds


def part_jobs(db: Database, quick: bool, rounds: int) -> dict[str, float]:
    count = 6_000 if quick else 20_000

    def process() -> float:
        put(db, count, 1_000)
        return count / drained(db)

    def process_alone() -> float:
        return count / statements.alone(db, empty, lambda: drained(db), before=lambda: put(db, count, 1_000))

    return interleaved(
        db,
        rounds,
        {
            "enqueued, 100 a transaction": lambda: count / timed(lambda: put(db, count, 100)),
            "processed": process,
            "processed, its statements alone": process_alone,
        },
    )


# --- the same through peers -----------------------------------------------------------------------------------------

PEERS = {"huey": "sqlite", "dramatiq": "mariadb", "pgqueuer": "mariadb"}  # and which of ours is of its kind


def ours_as_peer(db: Database, count: int) -> dict[str, float]:
    empty(db)
    single = timed(lambda: put(db, count, 1))
    empty(db)
    hundred = timed(lambda: put(db, count, 100))
    return {
        "enqueued one by one": count / single,
        "enqueued, 100 a call": count / hundred,
        "processed": count / drained(db),
    }


def through_peer(python: Path, name: str, count: int) -> dict[str, float] | str:
    """A peer's figures, or why there are none."""
    command = [str(python), str(Path(__file__).with_name("pipeline_peers.py")), name, str(count)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", None) or ""
        return f"{error}: {str(told).strip()[-300:]}" if told else str(error)
    answer = json.loads(run.stdout.splitlines()[-1])
    return answer.get("figures") or str(answer["skipped"])


def against_peers(urls: dict[str, str], python: Path, quick: bool, rounds: int) -> dict[str, dict[str, float]]:
    """Rounds of all of ours and all peers; the medians, by name."""
    count = 500 if quick else 5_000
    taken: dict[str, list[dict[str, float]]] = {}
    skipped: dict[str, str] = {}
    for _ in range(rounds):
        for name, url in urls.items():
            db = Database.open(url)
            db.migrate()
            taken.setdefault(name, []).append(ours_as_peer(db, count))
            db.close()
        for peer in PEERS:
            if peer not in skipped:
                answer = through_peer(python, peer, count)
                if isinstance(answer, str):
                    skipped[peer] = answer
                else:
                    taken.setdefault(peer, []).append(answer)
    medians = {
        name: {figure: statistics.median(one[figure] for one in figures) for figure in figures[0]}
        for name, figures in taken.items()
    }
    for name, figures in medians.items():
        mine = medians.get(PEERS.get(name, ""), {})
        for figure, value in figures.items():
            ahead = f"   ours on {PEERS[name]}: {mine[figure] / value:.1f}×" if figure in mine else ""
            print(f"peers   {name:9}{figure:34}{value:12,.2f}{ahead}")
    for name, reason in skipped.items():
        print(f"peers   {name:9}skipped: {reason}")
    return medians


# --- single messages ------------------------------------------------------------------------------------------------


def part_append(db: Database, quick: bool, rounds: int) -> dict[str, float]:
    count = 500 if quick else 2_000

    def single() -> float:
        wanted = messages(count)
        history.append_messages(db, wanted[:USERS])  # the conversations exist
        return count / timed(lambda: [history.append_messages(db, [one]) for one in wanted])

    def bare() -> float:
        """Two rows and a commit, by the driver alone."""
        mark = "?" if db.dialect == "sqlite" else "%s"
        row = f"INSERT INTO memory_user_settings VALUES ({','.join([mark] * 5)})"
        users = iter(range(1, 2 * count + 1))
        moment = NOW.replace(tzinfo=None).isoformat(" ")

        def write() -> None:
            with db.begin() as conn:
                conn.exec_driver_sql(row, (next(users), 1, 1, 0, moment))
                conn.exec_driver_sql(row, (next(users), 1, 1, 0, moment))

        return count / timed(lambda: [write() for _ in range(count)])

    def callers() -> float:
        wanted = messages(8 * count)
        history.append_messages(db, wanted[:USERS])
        shares = [wanted[n::8] for n in range(8)]
        each = iter(shares)
        lock = threading.Lock()

        def call() -> None:
            with lock:
                mine = next(each)
            for one in mine:
                history.append_messages(db, [one])

        return 8 * count / timed(lambda: in_threads(call, 8))

    def alone(together: int) -> float:
        """What one caller's, or eight callers' appends cost without their Python."""
        wanted = messages(together * count)
        parts = [wanted[start : start + together] for start in range(0, len(wanted), together)]

        def work() -> None:
            for part in parts:
                history.append_messages(db, part)

        exist = functools.partial(history.append_messages, db, messages(USERS))
        return together * count / statements.alone(db, empty, work, before=exist)

    arms = {"1 caller": single, "bare two rows": bare, "8 callers": callers}
    arms |= {"1 caller, its statements alone": lambda: alone(1), "8 in one, their statements alone": lambda: alone(8)}
    figures = interleaved(db, rounds, arms)
    figures["1 caller / bare"] = figures["1 caller"] / figures["bare two rows"]
    # Each caller waits for its commit, so where one commit follows the other (SQLite) 8 is the most there can be.
    figures["8 callers / bare"] = figures["8 callers"] / figures["bare two rows"]
    return figures


# --- growth and memory ----------------------------------------------------------------------------------------------


def part_growth(db: Database, quick: bool, _rounds: int) -> dict[str, float]:
    """Milliseconds of a claim of 100, with 10,000 and with many finished jobs, and as many waiting."""
    large = (100_000, 10_000) if quick else (1_000_000, 100_000)
    figures: dict[str, float] = {}
    empty(db)
    filled = 0
    for finished, waiting in ((10_000, 1_000), large):
        fill(db, finished - filled, status="success")
        filled = finished
        fill(db, waiting, due_at=NOW)
        leases = Leases(db, JOBS, JobSettings())
        took = [timed(functools.partial(leases.claim, 100, "w")) for _ in range(9)]
        figures[f"{finished:,} finished, {waiting:,} waiting"] = 1_000 * statistics.median(took)
        with db.begin() as conn:
            conn.execute(delete(memory_jobs).where(memory_jobs.c.due_at.is_not(None)))
    small, big = figures.values()
    figures["ratio"] = big / small
    return figures


def fill(db: Database, count: int, **changes: Any) -> None:
    for start in range(0, count, 5_000):
        rows = []
        for n in range(start, min(start + 5_000, count)):
            row = job_row(uuid.uuid4().hex, user_id=n % 5_000, job_key=f"u{n % 5_000}", **changes)
            rows.append(row | ({"order_key": row["job_key"]} if "due_at" in changes else {}))
        with db.begin() as conn:
            conn.execute(insert(memory_jobs), rows)


def part_memory(db: Database, quick: bool, _rounds: int) -> dict[str, float]:
    """Growth of the process's memory, in MB, over many jobs after the first tenth."""
    count = 20_000 if quick else 200_000
    empty(db)
    worker = Worker(db, [Nothing()], JobSettings(batch=500))
    put(db, count // 10, 1_000)
    worker.drain()
    before = resident_mb()
    for _ in range(9):
        put(db, count // 10, 1_000)
        worker.drain()
    after = resident_mb()
    worker.close()
    return {"MB before": before, "MB after": after, "growth": after - before}


def resident_mb() -> float:
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


# --- run ------------------------------------------------------------------------------------------------------------


def interleaved(db: Database, rounds: int, arms: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The median of each arm; one round of all, then the next, so that a busy minute hits all alike."""
    figures: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            empty(db)
            figures[name].append(arm())
    return {name: statistics.median(values) for name, values in figures.items()}


PARTS = {"chain": part_chain, "jobs": part_jobs, "append": part_append, "growth": part_growth, "memory": part_memory}


@contextlib.contextmanager
def databases(names: Sequence[str]) -> Iterator[dict[str, str]]:
    with contextlib.ExitStack() as stack:
        urls = {}
        if "sqlite" in names:
            urls["sqlite"] = f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/bench.db"
        if "mariadb" in names:
            from tests.support.mariadb import MariaDBServer

            options = ("--innodb-buffer-pool-size=1G", "--innodb-log-file-size=512M")
            urls["mariadb"] = stack.enter_context(MariaDBServer(options=options)).create_database("bench")
        yield urls


def report(part: str, name: str, figures: dict[str, float]) -> None:
    for figure, value in figures.items():
        target = TARGETS.get((part, name, figure))
        told = f"   target {target:,}: {value / target:.2f} of it" if target else ""
        print(f"{part:8}{name:9}{figure:34}{value:12,.2f}{told}")
    if part == "chain":
        seeds, limit = figures["the seed's way"], figures["raw batched writes"]
        for figure in ("1 a transaction", "100 a transaction"):
            print(
                f"{part:8}{name:9}{figure:34}{figures[figure] / seeds:11.1f}× the seed's way, "
                f"{figures[figure] / limit:.2f} of the raw writes"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small numbers, one round: under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--only", nargs="+", choices=[*PARTS, "peers"], default=[*PARTS, "peers"])
    parser.add_argument("--database", nargs="+", choices=["sqlite", "mariadb"], default=["sqlite", "mariadb"])
    default = Path(__file__).parents[1] / ".peers/bin/python"
    parser.add_argument("--peers-python", type=Path, default=default, metavar="FILE", help="has the peers' packages")
    parser.add_argument("--rounds", type=int, help="rounds of each arm (5; with --quick 1)")
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 5)
    results: dict[str, dict[str, dict[str, float]]] = {}
    with databases(options.database) as urls:
        for name, url in urls.items():
            db = Database.open(url)
            db.migrate()
            for part in (part for part in options.only if part in PARTS):
                figures = PARTS[part](db, options.quick, rounds)
                results.setdefault(part, {})[name] = figures
                report(part, name, figures)
            db.close()
        if "peers" in options.only:
            results["peers"] = against_peers(urls, options.peers_python, options.quick, rounds)
    if options.json:
        about = {"python": platform.python_version(), "quick": options.quick, "rounds": rounds}
        options.json.write_text(json.dumps({"about": about, "figures": results}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
