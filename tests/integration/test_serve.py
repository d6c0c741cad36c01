"""The workbench over the wire: REST by its own schema, MCP by the official client; keys open their users only."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp import Client, StdioServerParameters

from smartmem.errors import ConfigError, StoreUnavailable
from smartmem.serve import mcp, rest
from smartmem.serve.keys import Keys
from smartmem.web import WebTools, tool_schemas
from smartmem.web.local import LocalWeb
from smartmem.workbench import Workbench
from tests.support.cli import Cli
from tests.support.net import free_port, poll

ONE, ALL = "one-key-for-user-1", "key-for-the-back-end"
SAID = {"conversation_id": "c1", "role": "user", "content": "I am allergic to peanuts.", "client_message_id": "m1"}


@pytest.fixture
def bench(any_url: str, tmp_path: Path) -> Iterator[Workbench]:
    """On both databases, with vectors in a folder of its own."""
    store = {"name": "memory", "path": str(tmp_path / "vectors.db")}
    with Workbench.open(any_url, embedder={"name": "mock"}, store=store) as made:
        yield made


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Keys:
    monkeypatch.setenv("SMARTMEM_API_KEYS", f"{ONE}=1, {ALL}=*")
    return Keys.from_environment()


@pytest.fixture
def client(bench: Workbench, keys: Keys) -> Iterator[TestClient]:
    with TestClient(rest.app(bench, keys), headers={"Authorization": f"Bearer {ONE}"}) as made:
        yield made


def remembered(client: TestClient, bench: Workbench) -> dict[str, Any]:
    assert client.post("/v1/users/1/messages", json=SAID).status_code == 201
    bench.drain()
    (item,) = client.get("/v1/users/1/memories").json()["items"]
    return dict(item)


# --- REST -------------------------------------------------------------------------------------------------------


def test_from_a_message_to_a_prompt(client: TestClient, bench: Workbench) -> None:
    item = remembered(client, bench)
    assert item["memory_type"] == "constraint"
    assert client.post("/v1/users/1/messages", json=SAID).json()["created"] is False
    answer = client.post("/v1/users/1/recall", json={"query": "Which snacks may I offer, peanuts?"}).json()
    assert "peanuts" in answer["prompt"]
    assert answer["recalled"]["items"][0]["id"] == item["id"]
    (verdict,) = client.post("/v1/users/1/explain", json={"query": "peanuts"}).json()["verdicts"]
    assert (verdict["memory"]["id"], verdict["code"]) == (item["id"], "INJECTED")


def test_a_user_governs_what_is_remembered(client: TestClient, bench: Workbench) -> None:
    item = remembered(client, bench)
    place = f"/v1/users/1/memories/{item['id']}"
    edited = client.patch(place, json={"version": item["version"], "content": "I am allergic to all nuts."}).json()
    assert edited["content"] == "I am allergic to all nuts."
    late = client.patch(place, json={"version": item["version"], "content": "I like nuts."})
    assert (late.status_code, late.json()["error"]) == (409, "ItemChanged")
    assert client.delete(place).json()["status"] == "deleted"
    assert client.get("/v1/users/1/memories").json()["total"] == 0
    assert client.get("/v1/users/1/memories", params={"status": "deleted"}).json()["total"] == 1
    assert client.post(f"{place}/restore").json()["status"] == "active"
    off = client.patch("/v1/users/1/settings", json={"memory_enabled": False}).json()
    assert off == {"memory_enabled": False, "implicit_memory_enabled": True, "sensitive_memory_enabled": False}
    assert client.get("/v1/users/1/settings").json() == off
    assert client.post("/v1/users/1/recall", json={"query": "nuts"}).json()["recalled"]["items"] == []


def test_a_key_opens_its_users_and_nobody_else(client: TestClient, bench: Workbench) -> None:
    item = remembered(client, bench)
    assert client.get("/v1/users/2/memories").status_code == 403
    back_end = {"Authorization": f"Bearer {ALL}"}
    assert client.get("/v1/users/2/memories", headers=back_end).status_code == 200
    # Another user's memory is not there, whoever asks for it under the wrong user.
    assert client.get(f"/v1/users/2/memories/{item['id']}", headers=back_end).status_code == 404
    for wrong in ("Bearer no-such-key-at-all", f"Basic {ONE}", "Bearer"):
        answer = client.get("/v1/users/1/memories", headers={"Authorization": wrong})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_every_path_but_health_asks_for_a_key(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    for path, methods in schema["paths"].items():
        for method, call in methods.items():
            assert bool(call.get("security")) is (path != "/health"), f"{method} {path}"
            url = path.format(user_id=1, memory_id="x")
            answer = client.request(method, url, headers={"Authorization": ""}, json={})
            assert answer.status_code == (200 if path == "/health" else 401), f"{method} {path}"


def test_a_database_that_is_down(client: TestClient, bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object, **__: object) -> None:
        raise StoreUnavailable("the database cannot be reached; try again later")

    monkeypatch.setattr(type(bench.db), "schema_version", down)
    answer = client.get("/health")
    assert (answer.status_code, answer.json()["error"]) == (503, "StoreUnavailable")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
_TEXT, _TIME = st.text() | _JSON, st.datetimes().map(lambda at: f"{at.isoformat()}Z")
_MESSAGE = st.fixed_dictionaries(
    {"conversation_id": _TEXT, "role": st.sampled_from(["user", "tool"]) | _JSON, "content": _TEXT},
    optional={"occurred_at": _TIME | _JSON, "client_message_id": _TEXT},
)
_CALLS = st.one_of(
    st.tuples(st.just("POST"), st.just("/v1/users/1/messages"), _MESSAGE | _JSON),
    st.tuples(
        st.just("POST"),
        st.sampled_from(["/v1/users/1/recall", "/v1/users/1/explain"]),
        st.fixed_dictionaries({"query": st.text(max_size=40)}) | _JSON,
    ),
    st.tuples(st.just("PATCH"), st.sampled_from(["/v1/users/1/memories/x", "/v1/users/1/settings"]), _JSON),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(call=_CALLS)
def test_whatever_is_sent_is_answered_not_crashed(client: TestClient, call: tuple[str, str, Any]) -> None:
    method, path, body = call
    content = json.dumps(body).encode("utf-8", "surrogatepass")
    answer = client.request(method, path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert set(answer.json()) == {"error", "message"}


@pytest.mark.parametrize(
    "path", ["/v1/users/0/memories", "/v1/users/99999999999999999999/memories", "/v1/users/x/memories"]
)
def test_a_user_that_is_none(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 422


# --- keys -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said", ["", "short=1", f"{ONE}", f"{ONE}=0", f"{ONE}=x", f"{ONE}=", f"{ONE}=1,{ONE}=2", f"{ONE}=1+", "=1"]
)
def test_keys_that_cannot_be_read(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMARTMEM_API_KEYS", said)
    with pytest.raises(ConfigError, match="SMARTMEM_API_KEYS") as refused:
        Keys.from_environment()
    assert ONE not in str(refused.value)


def test_a_key_that_ends_in_equals_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMARTMEM_API_KEYS", "c29tZS1iYXNlNjQta2V5==1+7")
    scope = Keys.from_environment().scope("c29tZS1iYXNlNjQta2V5=")
    assert scope is not None
    assert scope.users == {1, 7}


def test_no_keys_no_service(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMARTMEM_API_KEYS", raising=False)
    ran = cli("serve", "rest", "--database", f"sqlite:///{tmp_path}/x.db")
    assert ran.status == 2
    assert "SMARTMEM_API_KEYS is not set" in ran.err


# --- as processes -----------------------------------------------------------------------------------------------


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SMARTMEM_")}
    url = f"sqlite:///{folder}/serve.db"
    return {**kept, "SMARTMEM_DATABASE_URL": url, "SMARTMEM_EMBEDDER": '{"name": "mock"}', **more}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """`smartmem serve rest` as a process; its address."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", "from smartmem.cli.app import main; main()", "serve", "rest", "--port", str(port)],
        cwd=tmp_path,
        env=environment(tmp_path, SMARTMEM_API_KEYS=f"{ONE}=1+2"),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:

        def answers() -> bool:
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            try:
                return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
            except httpx.TransportError:
                return False

        assert poll(answers, seconds=60)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_the_command_serves_http(served: str) -> None:
    key = {"Authorization": f"Bearer {ONE}"}
    assert httpx.post(f"{served}/v1/users/1/messages", json=SAID, headers=key).status_code == 201
    taken = httpx.post(f"{served}/v1/users/2/messages", json=SAID, headers=key)
    assert (taken.status_code, taken.json()["error"]) == (409, "ForeignConversation")
    wrong = httpx.patch(f"{served}/v1/users/1/settings", json={"memory_enabled": 0}, headers=key)
    assert wrong.status_code == 422, "a number is no switch"
    noise = httpx.patch(f"{served}/v1/users/1/settings", content=b"\xff\x04", headers=key)
    assert (noise.status_code, noise.json()["error"]) == (422, "BadRequest")


def test_schemathesis_finds_no_answer_that_the_schema_does_not_tell(served: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"{served}/openapi.json",
            "-H", f"Authorization: Bearer {ONE}", "--max-examples", "15", "--generation-deterministic", "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    calls = len(re.findall(r'"(?:get|post|patch|delete)":', httpx.get(f"{served}/openapi.json").text))
    assert f"{calls}/{calls}" in done.stdout, done.stdout[-3000:]


def test_the_official_client_over_stdin_and_stdout(tmp_path: Path) -> None:
    with Workbench.open(f"sqlite:///{tmp_path}/serve.db", embedder={"name": "mock"}) as bench:
        bench.append(user_id=1, **SAID)
        bench.append(user_id=2, conversation_id="c2", role="user", content="I live in Oslo.")
        bench.drain()
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-c", "from smartmem.cli.app import main; main()", "serve", "mcp", "--user", "1"],
        env=environment(tmp_path),
        cwd=tmp_path,
    )

    async def talk() -> None:
        async with Client(parameters, read_timeout_seconds=60) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert not any("user" in name for tool in tools.values() for name in tool.input_schema["properties"])
            found = await client.call_tool("recall_memories", {"query": "May I eat peanuts?"})
            assert found.structured_content is not None
            assert "peanuts" in found.structured_content["prompt"]

    asyncio.run(talk())


# --- MCP in this process ----------------------------------------------------------------------------------------


def test_the_tools(bench: Workbench) -> None:
    async def talk() -> None:
        async with Client(mcp.server(bench, 1)) as client:

            async def call(name: str, **arguments: Any) -> dict[str, Any]:
                answer = await client.call_tool(name, arguments)
                assert not answer.is_error, answer
                assert answer.structured_content is not None
                return dict(answer.structured_content)

            assert {tool.name for tool in (await client.list_tools()).tools} == {
                "append_message",
                "recall_memories",
                "explain_recall",
                "list_memories",
                "delete_memory",
                "memory_settings",
            }
            stored = await call("append_message", content="I am allergic to peanuts.", conversation_id="c1")
            assert stored["created"] is True
            bench.drain()
            (item,) = (await call("list_memories"))["items"]
            (why,) = (await call("explain_recall", query="peanuts"))["memories"]
            assert (why["id"], why["code"]) == (item["id"], "INJECTED")
            assert (await call("memory_settings"))["memory_enabled"] is True
            assert (await call("memory_settings", sensitive_memory_enabled=True))["sensitive_memory_enabled"] is True
            assert (await call("delete_memory", id=item["id"]))["status"] == "deleted"
            assert (await call("list_memories"))["total"] == 0
            refused = await client.call_tool("delete_memory", {"id": "no-such-memory"})
            assert refused.is_error
            assert "NoSuchMemory" in refused.content[0].text  # type: ignore[union-attr]
            wrong = await client.call_tool("list_memories", {"limit": 0})
            assert wrong.is_error

    asyncio.run(talk())


# --- the web beside the memories ------------------------------------------------------------------------------------


def web_tools(web: LocalWeb, **flags: bool) -> WebTools:
    """The local web's tools; a flag that is not given is on."""
    parts = {name: flags.get(name, True) for name in ("search", "fetch", "rag")}
    return WebTools(
        search=web.search("tavily") if parts["search"] else None,
        fetcher=web.fetcher() if parts["fetch"] else None,
        rag=web.rag("tavily") if parts["rag"] else None,
    )


def test_the_web_tools_are_offered_and_answer(bench: Workbench) -> None:
    async def talk(web: LocalWeb) -> None:
        async with Client(mcp.server(bench, 1, web_tools(web))) as client:

            async def call(name: str, **arguments: Any) -> dict[str, Any]:
                answer = await client.call_tool(name, arguments)
                assert not answer.is_error, answer
                assert answer.structured_content is not None
                return dict(answer.structured_content)

            listed = {tool.name: tool for tool in (await client.list_tools()).tools}
            for schema in tool_schemas():
                tool = listed[schema["name"]]
                assert tool.description == schema["description"]
                theirs = tool.input_schema["properties"]
                assert theirs.keys() == schema["input_schema"]["properties"].keys()
                assert tool.input_schema.get("required") == schema["input_schema"].get("required")
                assert all(field["description"] for field in theirs.values())
                assert "session_id" not in theirs
            found = await call("web_search", query="居住证 补办", top_k=2, domain_allow=["qingyun.gov.test"])
            assert found["ok"]
            assert len(found["results"]) <= 2
            assert "data" in found["notice"]
            page = await call("web_fetch", url="http://qingyun-metro.test/lines/7", max_chars=50)
            assert len(page["page"]["text"]) <= 50
            answer = await call("web_rag_search", question="居住证遗失补办要花多少钱？", top_k=3)
            assert answer["stage"] == 2
            assert answer["answer_evidence"]
            refused = await call("web_fetch", url="http://127.0.0.1:22/")
            assert (refused["ok"], refused["observation"]["kind"]) == (False, "blocked_address")

    with LocalWeb() as web:
        asyncio.run(talk(web))


def test_two_servers_are_two_sessions(bench: Workbench) -> None:
    async def ask(tools: WebTools) -> None:
        async with Client(mcp.server(bench, 1, tools)) as client:
            await client.call_tool("web_rag_search", {"question": "居住证遗失补办要花多少钱？"})

    with LocalWeb() as web:
        rag = web.rag("tavily")
        for _ in range(2):
            asyncio.run(ask(WebTools(rag=rag)))
        assert len(rag.index.sessions()) == 2


def test_a_web_tool_that_is_switched_off_is_not_offered(bench: Workbench) -> None:
    async def names(tools: WebTools | None) -> set[str]:
        async with Client(mcp.server(bench, 1, tools)) as client:
            return {tool.name for tool in (await client.list_tools()).tools if tool.name.startswith("web_")}

    with LocalWeb() as web:
        assert asyncio.run(names(web_tools(web, fetch=False))) == {"web_search", "web_rag_search"}
        assert asyncio.run(names(web_tools(web, search=False, fetch=False, rag=False))) == set()
    assert asyncio.run(names(None)) == set()


@pytest.mark.parametrize("words", [(), ("--no-web",)])
def test_the_command_offers_the_web(tmp_path: Path, words: tuple[str, ...]) -> None:
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-c", "from smartmem.cli.app import main; main()", "serve", "mcp", "--user", "1", *words],
        env=environment(tmp_path, SMARTMEM_WEB__FETCH__ENABLED="false"),
        cwd=tmp_path,
    )

    async def names() -> set[str]:
        async with Client(parameters, read_timeout_seconds=60) as client:
            return {tool.name for tool in (await client.list_tools()).tools if tool.name.startswith("web_")}

    assert asyncio.run(names()) == (set() if words else {"web_search", "web_rag_search"})
