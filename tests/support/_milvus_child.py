"""Runs one standalone Milvus in a network of its own and forwards one loopback port to it.

Started by tests/support/milvus_server.py with the side environment's Python, which holds the package `milvus` and
nothing else: so only the standard library here, and no import of our own.

Why a network namespace: this Milvus listens on every interface (`proxy.ip` in its configuration is only the address
it advertises), and it wants eleven ports. In a namespace of its own nobody outside reaches it and all ports are free.
A socket stays in the namespace it was made in, so the listener is made first, on the host's loopback, and this process
then moves into the new namespace and carries bytes between the two. That needs no veth pair, no socat and no iproute2.

Speaks JSON lines on stdout: {"port": …, "pid": …} when ready, {"error": …} when not. Ends when stdin closes, that is
also when the test process dies, or when Milvus ends.
"""

import asyncio
import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

LOOPBACK = "127.0.0.1"
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
MS_REC, MS_PRIVATE, MS_BIND = 0x4000, 0x40000, 0x1000
SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40
PR_SET_PDEATHSIG = 1
NO_NAMESPACE = 3  # exit status: this machine lets us make no network namespace

libc = ctypes.CDLL(None, use_errno=True)


def say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def give_up(message: str, status: int = 1) -> NoReturn:
    say(error=message)
    sys.exit(status)


def check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


# --- namespaces ---------------------------------------------------------------------------------------------------


def enter_private_network(run_dir: Path) -> None:
    """Move this process into new network and mount namespaces: as root directly, else inside a user namespace."""
    try:
        check(libc.unshare(CLONE_NEWNET | CLONE_NEWNS), "unshare")
    except OSError:
        enter_user_namespace()
    raise_loopback()
    hide_run_dir(run_dir)


def enter_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    try:
        check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS), "unshare")
    except OSError as error:
        give_up(
            f"no network namespace to be had here ({error}): run as root, or allow unprivileged user namespaces "
            "(sysctl kernel.unprivileged_userns_clone=1). Without one Milvus would listen on every interface.",
            NO_NAMESPACE,
        )
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def raise_loopback() -> None:
    request = struct.pack("16sh", b"lo", IFF_UP | IFF_RUNNING).ljust(40, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, request)


def hide_run_dir(run_dir: Path) -> None:
    """Milvus locks /run/milvus/standalone.pid, so two servers of one machine need a /run each."""
    check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "make mounts private")
    check(libc.mount(os.fsencode(run_dir), b"/run", None, MS_BIND, None), "mount a private /run")


# --- Milvus -------------------------------------------------------------------------------------------------------


def spawn(home: Path, session_ttl: int) -> tuple["subprocess.Popen[bytes]", int, int]:
    """Returns the process, its gRPC port and its health port (both inside the namespace)."""
    from milvus import MilvusServerConfig

    config = MilvusServerConfig(data_dir=str(home))
    # After any stop the next start waits until the sessions of the last one have run out: 55 s with the package's 30.
    config.set("common.session.ttl", session_ttl)
    config.resolve()
    health_port = 9091
    environment = {
        **os.environ,
        "DEPLOY_MODE": "STANDALONE",
        "METRICS_PORT": str(health_port),
        "LD_LIBRARY_PATH": str(home / "bin"),
    }
    with (home / "logs" / "milvus.log").open("wb") as log:
        process = subprocess.Popen(
            [home / "bin" / "milvus", "run", "standalone"],
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,  # this process has one thread, so the usual warning does not apply
        )
    return process, int(config.get("proxy_port")), health_port


def die_with_parent() -> None:
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def wait_until_healthy(process: "subprocess.Popen[bytes]", health_port: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not healthy(health_port):
        if process.poll() is not None:
            give_up(f"Milvus ended with {process.returncode} while starting")
        if time.monotonic() > deadline:
            process.kill()
            give_up(f"Milvus was not healthy within {seconds:g} s")
        time.sleep(0.02)


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/healthz", timeout=5) as answer:
            return b"OK" in answer.read()
    except (urllib.error.URLError, OSError):
        return False


# --- the bridge ---------------------------------------------------------------------------------------------------


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 18):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # one side has gone: closing the other is all there is to do
    finally:
        writer.close()


async def forward(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        inner_reader, inner_writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        writer.close()
        return
    await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))


async def serve(listener: socket.socket, process: "subprocess.Popen[bytes]", port: int) -> None:
    stdin_closed = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stdin_closed.set)
    server = await asyncio.start_server(lambda r, w: forward(port, r, w), sock=listener, limit=1 << 20)
    async with server:
        while not stdin_closed.is_set() and process.poll() is None:
            try:
                await asyncio.wait_for(stdin_closed.wait(), 0.2)
            except TimeoutError:
                continue


def main() -> None:
    home, port, session_ttl, seconds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    listener = socket.create_server((LOOPBACK, port))
    (home / "run").mkdir(exist_ok=True)
    enter_private_network(home / "run")
    process, inner_port, health_port = spawn(home, session_ttl)
    try:
        wait_until_healthy(process, health_port, seconds)
        say(port=listener.getsockname()[1], pid=process.pid)
        asyncio.run(serve(listener, process, inner_port))
    finally:
        # 2.3.5 aborts on SIGTERM and SIGINT alike, so there is no orderly stop to wait for.
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
