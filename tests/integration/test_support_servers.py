"""The servers and helpers of tests/support do what the tests that use them rely on."""

import concurrent.futures
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from openai import APIConnectionError, APITimeoutError, InternalServerError, OpenAI, RateLimitError
from openai.types.chat import ChatCompletionUserMessageParam

from tests.support.crash import (
    CRASHED,
    CrashPoint,
    CrashRunner,
    CrashServerFailed,
    crash_points,
    lost_acknowledgement,
    raise_at,
)
from tests.support.mariadb import MariaDBFailed, MariaDBMissing, MariaDBServer, find_program
from tests.support.milvus_server import MilvusServer, MilvusUnavailable
from tests.support.net import LOOPBACK, poll
from tests.support.openai_server import (
    EMBEDDING_DIM,
    OpenAIServer,
    Reply,
    Request,
    drop,
    embedding_of,
    half_body,
    not_json,
    ok,
    prose,
    rate_limited,
    server_error,
    slow,
    truncated,
)

ROOT = Path(__file__).parents[2]
EMOJI = "👩‍👩‍👧 你好 𠮷"


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


# --- MariaDB ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDBServer]:
    with MariaDBServer() as server:
        yield server


@pytest.mark.mariadb
class TestMariaDB:
    def test_emoji_and_rare_characters_survive(self, mariadb: MariaDBServer) -> None:
        with mariadb.database() as url:
            engine = sa.create_engine(url)
            with engine.begin() as connection:
                connection.execute(sa.text("CREATE TABLE t (word VARCHAR(40))"))
                connection.execute(sa.text("INSERT INTO t VALUES (:word)"), {"word": EMOJI})
                assert connection.scalar(sa.text("SELECT word FROM t")) == EMOJI
            engine.dispose()

    def test_each_database_is_fresh_and_drop_may_be_repeated(self, mariadb: MariaDBServer) -> None:
        first, second = mariadb.create_database(), mariadb.create_database()
        assert first != second
        for url in (first, second, second):
            mariadb.drop(url)
        names = {row[0] for row in mariadb.execute("SHOW DATABASES")}
        assert not {name for name in names if name.startswith("t_")}

    def test_listens_on_loopback_only_and_flushes_at_commit(self, mariadb: MariaDBServer) -> None:
        variables = dict(mariadb.execute("SHOW VARIABLES"))
        assert variables["bind_address"] == LOOPBACK
        assert variables["innodb_flush_log_at_trx_commit"] == "1"
        assert variables["character_set_server"] == "utf8mb4"

    def test_acknowledged_commit_survives_kill_and_the_port_stays(self, mariadb: MariaDBServer) -> None:
        url, port, pid = mariadb.create_database(), mariadb.port, mariadb.pid
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE t (n INT)"))
        with engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO t VALUES (1)"))
        engine.dispose()
        mariadb.restart(crash=True)
        assert (mariadb.port, gone(pid)) == (port, True)
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT COUNT(*) FROM t")) == 1
        engine.dispose()
        mariadb.drop(url)

    def test_orderly_stop_refuses_connections_until_the_start(self, mariadb: MariaDBServer) -> None:
        mariadb.stop()
        assert not listens(mariadb.port)
        with pytest.raises(MariaDBFailed, match="not running"):
            _ = mariadb.pid
        mariadb.start()
        assert listens(mariadb.port)

    def test_leaves_nothing_behind(self, tmp_path: Path) -> None:
        with MariaDBServer(folder=tmp_path) as server:
            pid = server.pid
        assert gone(pid)
        assert list(tmp_path.iterdir()) == []

    def test_bad_option_is_told_with_the_log(self, tmp_path: Path) -> None:
        server = MariaDBServer(folder=tmp_path, options=("--no-such-option",))
        with pytest.raises(MariaDBFailed, match="no-such-option"):
            server.__enter__()
        assert list(tmp_path.iterdir()) == []


def test_missing_mariadb_says_what_to_install() -> None:
    with pytest.raises(MariaDBMissing, match="apt-get install mariadb-server"):
        find_program("no-such-mariadbd")


@pytest.mark.mariadb
def test_command_line_prints_a_url_and_stops_on_interrupt() -> None:
    command = [sys.executable, "-m", "tests.support.mariadb"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = sa.make_url(process.stdout.readline().strip())
        assert url.port is not None
        assert listens(url.port)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert not listens(url.port)


@pytest.mark.mariadb
def test_killed_test_process_takes_the_server_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.mariadb"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # a killed process cannot remove its folder
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = sa.make_url(process.stdout.readline().strip())
        process.kill()
        process.wait(30)
    assert url.port is not None
    port = url.port
    assert poll(lambda: not listens(port), seconds=10)


# --- Milvus -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def milvus() -> Iterator[MilvusServer]:
    try:
        server = MilvusServer(session_ttl=3).__enter__()
    except MilvusUnavailable as error:
        pytest.skip(f"no standalone Milvus on this machine: {error}")
    with server:
        yield server


@pytest.mark.milvus_server
class TestMilvus:
    def test_our_client_speaks_to_it_and_rows_survive_a_restart(self, milvus: MilvusServer) -> None:
        from pymilvus import MilvusClient

        client = MilvusClient(uri=milvus.uri)
        client.create_collection("facts", dimension=4, consistency_level="Strong")
        client.insert("facts", [{"id": n, "vector": [float(n == at) for at in range(4)], "t": EMOJI} for n in range(4)])
        hits = client.search("facts", [[0.0, 1.0, 0.0, 0.0]], limit=1, output_fields=["t"])
        assert (hits[0][0]["id"], hits[0][0]["entity"]["t"]) == (1, EMOJI)
        client.close()

        port = milvus.port
        milvus.kill()
        assert not listens(port)
        milvus.start()
        assert milvus.port == port

        client = MilvusClient(uri=milvus.uri)
        client.load_collection("facts")
        assert [row["id"] for row in client.query("facts", "id >= 2", output_fields=["id"])] == [2, 3]
        client.close()

    def test_only_the_bridge_listens_here_and_on_loopback(self, milvus: MilvusServer) -> None:
        """The server's own eleven ports are in its namespace, so this machine's other addresses do not answer."""
        listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        ours = {line[1] for line in listening if line[3] == "0A" and int(line[1].split(":")[1], 16) == milvus.port}
        assert ours == {f"0100007F:{milvus.port:04X}"}
        assert not listens(53100)  # the root coordinator's port


@pytest.mark.milvus_server
def test_milvus_leaves_nothing_behind(milvus: MilvusServer, tmp_path: Path) -> None:
    with MilvusServer(folder=tmp_path) as second:  # beside the first: neither takes the other's ports or pid file
        pid = second._server_pid
        assert milvus.running
    assert gone(pid)
    assert list(tmp_path.iterdir()) == []


# --- the OpenAI-compatible endpoint -------------------------------------------------------------------------------


@pytest.fixture
def openai_server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def client(openai_server: OpenAIServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=openai_server.base_url, api_key="test-key", max_retries=0, timeout=5) as client:
        yield client


def ask(client: OpenAI, text: str = "hello", timeout: float = 5) -> str:
    message: ChatCompletionUserMessageParam = {"role": "user", "content": text}
    answer = client.chat.completions.create(model="m", messages=[message], timeout=timeout)
    return str(answer.choices[0].message.content)


class TestOpenAIServer:
    def test_plays_its_script_then_its_default(self, openai_server: OpenAIServer, client: OpenAI) -> None:
        openai_server.chat.script(ok({"n": 1}), ok("two"), lambda request: ok(request.prompt.upper()))
        assert [ask(client), ask(client), ask(client, "你好 abc"), ask(client)] == ['{"n": 1}', "two", "你好 ABC", "{}"]
        assert openai_server.chat.left == 0

    def test_records_what_was_asked(self, openai_server: OpenAIServer, client: OpenAI) -> None:
        ask(client, "what?")
        (request,) = openai_server.requests
        assert (request.path, request.prompt) == ("/v1/chat/completions", "what?")
        assert request.headers["authorization"] == "Bearer test-key"
        assert openai_server.chat.requests == [request]

    @pytest.mark.parametrize(
        ("reply", "raised"),
        [
            (rate_limited(retry_after=2), RateLimitError),
            (server_error(503), InternalServerError),
            (drop(), APIConnectionError),
            (half_body({"a": "long enough"}), APIConnectionError),
        ],
        ids=["429", "503", "dropped", "half-body"],
    )
    def test_failures_reach_the_client_as_such(
        self, openai_server: OpenAIServer, client: OpenAI, reply: Reply, raised: type[Exception]
    ) -> None:
        openai_server.chat.script(reply)
        with pytest.raises(raised) as caught:
            ask(client)
        if isinstance(caught.value, RateLimitError):
            assert caught.value.response.headers["retry-after"] == "2"
        assert ask(client) == "{}"  # and the next call is answered

    def test_drop_is_a_reset_connection(self, openai_server: OpenAIServer) -> None:
        openai_server.chat.script(drop())
        with pytest.raises(httpx.ReadError):
            httpx.post(f"{openai_server.base_url}/chat/completions", json={"messages": []})

    def test_slow_answer_times_the_client_out_and_does_not_hold_up_the_close(
        self, openai_server: OpenAIServer, client: OpenAI
    ) -> None:
        openai_server.chat.script(slow(60))
        with pytest.raises(APITimeoutError):
            ask(client, timeout=0.1)

    def test_broken_json_is_broken_inside_valid_http(self, openai_server: OpenAIServer, client: OpenAI) -> None:
        openai_server.chat.script(truncated({"facts": ["likes tea"]}), prose({"facts": []}))
        assert ask(client) == '{"facts": ["'
        assert '```json\n{"facts": []}\n```' in ask(client)
        openai_server.chat.script(not_json())
        answer = httpx.post(f"{openai_server.base_url}/chat/completions", json={"messages": []})
        assert (answer.status_code, answer.text[:6]) == (200, "<html>")

    def test_embeddings_are_deterministic_in_both_encodings(self, openai_server: OpenAIServer, client: OpenAI) -> None:
        default = client.embeddings.create(model="m", input=["茶", "tea"])  # base64 inside
        floats = client.embeddings.create(model="m", input="tea", encoding_format="float")
        assert len(default.data[0].embedding) == EMBEDDING_DIM
        assert default.data[1].embedding == pytest.approx(floats.data[0].embedding)
        assert floats.data[0].embedding == embedding_of("tea")

    def test_rerank_in_three_dialects(self, openai_server: OpenAIServer) -> None:
        texts = ["喝咖啡", "喜欢喝茶", "天气"]
        cohere = httpx.post(f"{openai_server.url}/v2/rerank", json={"query": "喝茶", "documents": texts, "top_n": 2})
        jina = httpx.post(
            f"{openai_server.base_url}/rerank", json={"query": "喝茶", "documents": [{"text": t} for t in texts]}
        )
        tei = httpx.post(f"{openai_server.url}/rerank", json={"query": "喝茶", "texts": texts})
        assert [hit["index"] for hit in cohere.json()["results"]] == [1, 0]
        assert jina.json()["results"][0] == {"index": 1, "relevance_score": 1.0}
        assert tei.json() == [{"index": 1, "score": 1.0}, {"index": 0, "score": 0.5}, {"index": 2, "score": 0.0}]

    def test_unknown_paths_and_bad_bodies_are_refused(self, openai_server: OpenAIServer) -> None:
        assert httpx.post(f"{openai_server.base_url}/nope", json={}).status_code == 404
        assert httpx.post(f"{openai_server.base_url}/rerank", content=b"{").status_code == 400
        assert httpx.get(f"{openai_server.base_url}/models").json()["data"][0]["id"] == "scripted"

    def test_parallel_calls_each_get_one_reply(self, openai_server: OpenAIServer, client: OpenAI) -> None:
        openai_server.chat.script(*(ok(str(n)) for n in range(20)))
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: ask(client), range(20)))
        assert sorted(answers, key=int) == [str(n) for n in range(20)]

    def test_a_default_may_depend_on_the_request(self, openai_server: OpenAIServer, client: OpenAI) -> None:
        def echo(request: Request) -> Reply:
            return ok(request.prompt)

        openai_server.chat.default = echo
        assert [ask(client, "a"), ask(client, "b")] == ["a", "b"]


# --- crash points -------------------------------------------------------------------------------------------------


def transfer(url: str) -> None:
    """The program under test: two statements in one transaction, then one in another."""
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE account SET amount = amount - 1 WHERE id = 1"))
            connection.execute(sa.text("UPDATE account SET amount = amount + 1 WHERE id = 2"))
        with engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO done VALUES (1)"))
    finally:
        engine.dispose()


def fail() -> None:
    raise ValueError("a reason of its own")


def sleep_for_ever() -> None:
    time.sleep(600)


def prepare(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in ("CREATE TABLE account (id INT, amount INT)", "CREATE TABLE done (id INT)"):
            connection.execute(sa.text(statement))
        connection.execute(sa.text("INSERT INTO account VALUES (1, 10), (2, 0)"))
    engine.dispose()


def state(url: str) -> tuple[int, int, int]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        amounts = connection.scalars(sa.text("SELECT amount FROM account ORDER BY id")).all()
        done = connection.scalar(sa.text("SELECT COUNT(*) FROM done"))
    engine.dispose()
    return amounts[0], amounts[1], int(done or 0)


@pytest.fixture(scope="module")
def crash() -> Iterator[CrashRunner]:
    with CrashRunner(preload=["sqlalchemy.dialects.sqlite"], seconds=20) as runner:
        yield runner


class TestCrash:
    def test_counts_statements_and_commits(self, crash: CrashRunner, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'a.db'}"
        prepare(url)
        counts = crash.count_points(transfer, url)
        assert (counts.statements, counts.commits, counts.exitcode, counts.reached) == (3, 2, 0, False)
        assert len(list(crash_points(counts))) == 10

    def test_every_point_leaves_what_a_crash_there_must_leave(self, crash: CrashRunner, tmp_path: Path) -> None:
        before, half, after = (10, 0, 0), (9, 1, 0), (9, 1, 1)
        expected = {
            ("before", "commit", 1): before,
            ("after", "commit", 1): half,
            ("before", "commit", 2): half,
            ("after", "commit", 2): after,
        }
        for number, point in enumerate(crash_points(crash.count_points(transfer, new(tmp_path, "count")))):
            url = new(tmp_path, str(number))
            result = crash.run_until(point, transfer, url)
            assert (result.exitcode, result.reached) == (CRASHED, True), (str(point), result.error)
            usual = half if point.kind == "statement" and point.n == 3 else before
            assert state(url) == expected.get((point.when, point.kind, point.n), usual), str(point)

    def test_point_that_never_comes_is_not_reached(self, crash: CrashRunner, tmp_path: Path) -> None:
        url = new(tmp_path, "a")
        result = crash.run_until(CrashPoint("after", "commit", 3), transfer, url)
        assert (result.exitcode, result.reached, state(url)) == (0, False, (9, 1, 1))

    def test_error_and_endless_run_are_told_apart_from_a_crash(self, crash: CrashRunner) -> None:
        result = crash.run_until(CrashPoint("before", "statement", 1), fail)
        assert (result.exitcode, result.reached) == (1, False)
        assert "a reason of its own" in result.error
        with pytest.raises(CrashServerFailed, match="a reason of its own"):
            crash.count_points(fail)
        with CrashRunner(seconds=0.2) as hasty:
            assert hasty.run_until(None, sleep_for_ever).timed_out

    def test_target_must_be_importable(self, crash: CrashRunner) -> None:
        with pytest.raises(ValueError, match="module-level"):
            crash.run_until(None, lambda: None)
        with pytest.raises(CrashServerFailed, match="no_such_function"):
            crash.run_until(None, "os:no_such_function")
        assert crash.run_until(None, "os:getpid").exitcode == 0  # and the runner is still good

    def test_a_point_costs_milliseconds(self, crash: CrashRunner) -> None:
        started = time.perf_counter()
        for _ in range(20):
            crash.run_until(None, "os:getpid")
        assert (time.perf_counter() - started) / 20 < 0.25  # 0.005 on an idle machine

    @pytest.mark.mariadb
    def test_after_commit_also_holds_on_mariadb(self, crash: CrashRunner, mariadb: MariaDBServer) -> None:
        for point, expected in (
            (CrashPoint("before", "commit", 1), (10, 0, 0)),
            (CrashPoint("after", "commit", 1), (9, 1, 0)),
        ):
            with mariadb.database() as url:
                prepare(url)
                assert crash.run_until(point, transfer, url).reached
                assert state(url) == expected


def new(folder: Path, name: str) -> str:
    url = f"sqlite:///{folder / name}.db"
    prepare(url)
    return url


class TestErrorsInThisProcess:
    def test_lost_acknowledgement_commits_and_raises(self, tmp_path: Path) -> None:
        url = new(tmp_path, "a")
        with lost_acknowledgement(1), pytest.raises(sa.exc.OperationalError, match="connection lost"):
            transfer(url)
        assert state(url) == (9, 1, 0)

    def test_error_before_the_commit_rolls_back(self, tmp_path: Path) -> None:
        url = new(tmp_path, "a")
        with raise_at(CrashPoint("before", "commit", 1)), pytest.raises(sa.exc.OperationalError):
            transfer(url)
        assert state(url) == (10, 0, 0)

    def test_hooks_are_gone_afterwards(self, tmp_path: Path) -> None:
        url = new(tmp_path, "a")
        engine = sa.create_engine(url)
        with raise_at(CrashPoint("after", "commit", 5)), engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO done VALUES (2)"))
        assert "do_commit" not in vars(engine.dialect)
        engine.dispose()
        transfer(url)
        assert state(url) == (9, 1, 2)
