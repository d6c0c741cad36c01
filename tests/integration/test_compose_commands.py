"""The services of docker-compose.yml whose programs come as packages, run with the file's own commands, environment and
health checks: the worker against MariaDB and the standalone Milvus, JupyterLab and etcd. MySQL's image is stood in for
by MariaDB; MinIO and Attu come as images only."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

import smartmem
from tests.support.mariadb import MariaDBServer
from tests.support.milvus_server import MilvusServer
from tests.support.net import LOOPBACK, free_port, poll
from tests.unit.test_compose import DOCKERFILE, SERVICES, VARIABLE, example

GRACE_S = 60  # the worker's stop_grace_period


def filled(text: str, values: Mapping[str, str]) -> str:
    """A string of the compose file as compose would hand it on."""
    return VARIABLE.sub(lambda found: values[found["name"]], text).replace("$$", "$")


def environment(service: str, values: Mapping[str, str], **more: str) -> dict[str, str]:
    own = {name: filled(text, values) for name, text in SERVICES[service]["environment"].items()}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SMARTMEM_")}
    return {**kept, "PATH": path, **own, **more}


@contextlib.contextmanager
def started(command: Sequence[str], env: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, env=env, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def healthy(service: str, env: dict[str, str], folder: Path, **ports: int) -> subprocess.CompletedProcess[str]:
    """What the health check says, run as it stands there."""
    kind, *command = SERVICES[service]["healthcheck"]["test"]
    assert kind == "CMD"
    for old, new in ports.items():
        command = [word.replace(old.removeprefix("p"), str(new)) for word in command]
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.mariadb
@pytest.mark.milvus_server
def test_the_worker_s_command_works_and_stops_in_its_grace(
    mariadb_server: MariaDBServer, milvus_server: MilvusServer, tmp_path: Path
) -> None:
    url = mariadb_server.create_database()
    store = json.dumps({"name": "milvus", "uri": milvus_server.uri, "collection": f"compose{os.getpid()}"})
    values = {**example(), "MYSQL_PASSWORD": "x", "SMARTMEM_STORE": store, "MILVUS_TOKEN": "root:unused"}
    written = filled(SERVICES["worker"]["environment"]["SMARTMEM_DATABASE_URL"], values)
    assert re.fullmatch(r"mysql\+pymysql://smartmem:x@mysql:3306/smartmem\?charset=utf8mb4", written)
    # The names of the compose network lead nowhere here; all the rest is the file's.
    env = environment("worker", values, SMARTMEM_DATABASE_URL=url, SMARTMEM_EMBEDDER='{"name": "mock"}')
    with smartmem.open(url, embedder={"name": "mock"}, store=json.loads(store)) as bench:
        bench.append(user_id=1, conversation_id="c", role="user", content="I live in Leeds.")
        with started(SERVICES["worker"]["command"], env, tmp_path) as worker:
            assert poll(lambda: bench.status().vectors == {"synced": 1} or worker.poll() is not None, seconds=120)
            assert worker.poll() is None, worker.stderr and worker.stderr.read()
            checked = healthy("worker", env, tmp_path)
            assert checked.returncode == 0, checked.stderr
            assert json.loads(checked.stdout)["unfinished"] == 0
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(GRACE_S) == 0
        assert [item.content for item in bench.recall(1, "Where do I live?").items] == ["I live in Leeds"]
    lost = healthy("worker", env | {"SMARTMEM_DATABASE_URL": f"mysql+pymysql://x@{LOOPBACK}:9/x"}, tmp_path)
    assert lost.returncode != 0, "a worker that cannot reach its database is not healthy"


def test_jupyterlab_s_command_answers_its_health_check(tmp_path: Path) -> None:
    (last,) = re.findall(r"(?ms)^FROM base AS lab$.*?^CMD (\[.*?\])$", DOCKERFILE)
    command: list[str] = json.loads(last)
    assert {"--ip=0.0.0.0", "--port=8888"} <= set(command)
    port = free_port()
    # Here on loopback and a free port, and as root, which the image's user is not.
    here = [word.replace("0.0.0.0", LOOPBACK).replace("8888", str(port)) for word in command]
    env = environment(
        "jupyterlab", {**example(), "MYSQL_PASSWORD": "x", "JUPYTER_TOKEN": "only-for-this-test", "MILVUS_TOKEN": "x"},
        JUPYTER_CONFIG_DIR=str(tmp_path / "config"), JUPYTER_RUNTIME_DIR=str(tmp_path / "runtime"),
        JUPYTER_DATA_DIR=str(tmp_path / "data"),
    )  # fmt: skip
    with started([*here, "--allow-root"], env, tmp_path) as lab:

        def answers() -> bool:
            return lab.poll() is not None or healthy("jupyterlab", env, tmp_path, p8888=port).returncode == 0

        assert poll(answers, seconds=90, every=0.2)
        assert lab.poll() is None, lab.stderr and lab.stderr.read()


@pytest.mark.skipif(not shutil.which("etcd"), reason="no etcd here: tests/support/system-packages.sh installs it")
def test_etcd_s_command_answers_its_health_check(tmp_path: Path) -> None:
    """Its port and its folder are this machine's; a second start finds what the first one wrote."""
    client, peer = free_port(), free_port()
    here = {"http://etcd:2379": f"http://{LOOPBACK}:{client}", "http://0.0.0.0:2379": f"http://{LOOPBACK}:{client}",
            "/etcd/data": str(tmp_path / "data")}  # fmt: skip
    command = []
    for word in SERVICES["etcd"]["command"]:
        name, _, value = word.partition("=")
        command.append(f"{name}={here[value]}" if value else word)
    others = f"http://{LOOPBACK}:{peer}"  # only one member: its peer port is asked by nobody, but may be taken here
    env = environment(
        "etcd", example(), ETCDCTL_ENDPOINTS=f"{LOOPBACK}:{client}", ETCD_LISTEN_PEER_URLS=others,
        ETCD_INITIAL_ADVERTISE_PEER_URLS=others, ETCD_INITIAL_CLUSTER=f"default={others}",
    )  # fmt: skip
    assert healthy("etcd", env, tmp_path).returncode != 0, "it is healthy before it is started"
    for said in ("put key kept", "get key"):
        with started(command, env, tmp_path) as etcd:
            assert poll(lambda: etcd.poll() is not None or healthy("etcd", env, tmp_path).returncode == 0, seconds=60)
            assert etcd.poll() is None, etcd.stderr and etcd.stderr.read()
            answer = subprocess.run(["etcdctl", *said.split()], env=env, capture_output=True, text=True, check=True)
            etcd.send_signal(signal.SIGTERM)
            etcd.wait(30)
    assert "kept" in answer.stdout


def test_the_commands_above_are_those_of_the_images() -> None:
    assert SERVICES["worker"]["command"] == json.loads(re.findall(r"(?m)^CMD (\[.*work.*\])$", DOCKERFILE)[0])
    assert shlex.join(SERVICES["worker"]["healthcheck"]["test"][1:]) == "smartmem status --json"
    assert SERVICES["worker"]["stop_grace_period"] == f"{GRACE_S}s"
