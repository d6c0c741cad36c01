"""No-op jobs through other queues: what `benchmarks/pipeline.py` compares with, run by a Python of their own.

    python -m venv .peers && .peers/bin/pip install huey dramatiq redis pgqueuer asyncpg
    apt-get install redis-server postgresql
    python benchmarks/pipeline.py --only peers

Knows nothing of smartmem: the peers' packages are no dependencies of it. Each peer has a private server in a
temporary folder, with the durable settings that it has: huey's SQLite with fsync, PostgreSQL with its defaults
(fsync, synchronous_commit), Redis with an append-only file written each second (its own default for it).

Prints one line of JSON: jobs a second for enqueueing one by one, in hundreds where the peer can, and processing; or
why it could not run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

LOOPBACK = "127.0.0.1"


class Absent(Exception):
    """Something that this peer needs is not on this machine."""


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(command: list[str], port: int, user: str | None) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1):
                break
            if process.poll() is not None:
                raise Absent(f"{command[0]} ended with {process.returncode}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def huey(count: int, folder: Path) -> dict[str, float]:
    from huey import SqliteHuey

    queue = SqliteHuey(filename=str(folder / "huey.db"), fsync=True, results=False)

    @queue.task()
    def nothing(n: int) -> None:
        return None

    enqueue = timed(lambda: [nothing(n) for n in range(count)])

    def work() -> None:
        done = 0
        while (task := queue.dequeue()) is not None:
            queue.execute(task)
            done += 1
        assert done == count, done

    return {"enqueued one by one": count / enqueue, "processed": count / timed(work)}


def dramatiq(count: int, folder: Path) -> dict[str, float]:
    import dramatiq as peer
    from dramatiq.brokers.redis import RedisBroker

    server = shutil.which("redis-server")
    if server is None:
        raise Absent("no redis-server: apt-get install redis-server")
    port = free_port()
    options = ["--port", str(port), "--bind", LOOPBACK, "--dir", str(folder), "--appendonly", "yes", "--save", ""]
    with serving([server, *options], port, None):
        broker = RedisBroker(host=LOOPBACK, port=port, middleware=[])
        peer.set_broker(broker)

        @peer.actor(broker=broker)
        def nothing(n: int) -> None:
            return None

        enqueue = timed(lambda: [nothing.send(n) for n in range(count)])
        worker = peer.Worker(broker, worker_threads=4, worker_timeout=50)

        def work() -> None:
            worker.start()
            broker.join(nothing.queue_name)
            worker.join()

        process = timed(work)
        worker.stop()
        broker.close()
    return {"enqueued one by one": count / enqueue, "processed": count / process}


def pgqueuer(count: int, folder: Path) -> dict[str, float]:
    import asyncpg  # noqa: F401 - missing means that this peer is

    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        raise Absent("no PostgreSQL: apt-get install postgresql")
    home = programs[-1].parent
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    if user:
        os.chmod(folder.parent, 0o755)
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    data, port = folder / "pg", free_port()
    made = [str(home / "initdb"), "-D", str(data), "-U", "bench", "-A", "trust"]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL, user=user, cwd=folder)
    command = [str(home / "postgres"), "-D", str(data), "-p", str(port), "-c", f"listen_addresses={LOOPBACK}"]
    with serving([*command, "-c", f"unix_socket_directories={folder}"], port, user):
        return asyncio.run(_pgqueuer(count, f"postgresql://bench@{LOOPBACK}:{port}/postgres"))


async def _pgqueuer(count: int, url: str) -> dict[str, float]:
    import asyncpg
    from pgqueuer import PgQueuer
    from pgqueuer.db import AsyncpgDriver
    from pgqueuer.queries import Queries
    from pgqueuer.types import QueueExecutionMode

    for _ in range(100):  # the port is open a moment before the server answers
        with contextlib.suppress(asyncpg.CannotConnectNowError):
            connection = await asyncpg.connect(url)
            break
        await asyncio.sleep(0.1)
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    single = count // 2
    begun = time.perf_counter()
    for _ in range(single):
        await queries.enqueue("nothing", None)
    one = single / (time.perf_counter() - begun)
    rest = range(0, count - single, 100)
    begun = time.perf_counter()
    for _ in rest:
        await queries.enqueue(["nothing"] * 100, [None] * 100, [0] * 100)
    hundred = 100 * len(rest) / (time.perf_counter() - begun) if rest else one
    queuer = PgQueuer.from_asyncpg_connection(connection)
    done = 0

    @queuer.entrypoint("nothing")
    async def nothing(job: object) -> None:
        nonlocal done
        done += 1

    begun = time.perf_counter()
    await queuer.run(batch_size=100, mode=QueueExecutionMode.drain)
    took = time.perf_counter() - begun
    assert done == single + 100 * len(rest), done
    return {"enqueued one by one": one, "enqueued, 100 a call": hundred, "processed": done / took}


PEERS = {"huey": huey, "dramatiq": dramatiq, "pgqueuer": pgqueuer}


def main() -> None:
    name, count = sys.argv[1], int(sys.argv[2])
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer) / "peer"
        folder.mkdir()
        try:
            answer: dict[str, object] = {"figures": PEERS[name](count, folder)}
        except (ImportError, Absent) as error:
            answer = {"skipped": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
