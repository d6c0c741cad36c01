"""smartmem web …: one line for what goes wrong, and an exit status that says whether to try again."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Cli
from tests.support.local_web import KEYS, LocalWeb


@pytest.fixture(scope="module")
def server() -> Iterator[LocalWeb]:
    with LocalWeb() as running:
        yield running


@pytest.fixture
def web(server: LocalWeb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalWeb:
    """Settings that lead to the local services. The machine's resolver is told that it knows none of their pages."""
    server.reset()
    ask = socket.getaddrinfo

    def known(host: str | bytes | None, *rest: Any, **more: Any) -> Any:
        if str(host).endswith(".test"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ask(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", known)
    base = f"http://127.0.0.1:{server.port}"
    monkeypatch.chdir(tmp_path)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "smartmem.toml").write_text(
        f'''embedder = {{ name = "mock" }}
[web.search]
providers = ["tavily", "searxng"]
tavily_url = "{base}/tavily"
searxng_url = "{base}/searxng"
rate_per_s = {{ tavily = 1000.0, searxng = 1000.0 }}
[web.fetch]
timeout_s = 5.0
''',
        "utf-8",
    )
    return server


def test_search(web: LocalWeb, cli: Cli) -> None:
    found = cli.ok("web", "search", "TarnDB write concern", "-k", 2, "--json").json
    assert [result["provider"] for result in found["results"]] == ["tavily", "tavily"]
    assert "docs.tarndb.test" in cli.ok("web", "search", "TarnDB write concern", "--domain", "tarndb.test").out


def test_the_next_service_is_asked(web: LocalWeb, cli: Cli) -> None:
    web.modes["tavily"] = "429"
    found = cli.ok("web", "search", "TarnDB write concern", "--json").json
    assert (found["provider"], found["attempts"][0]["outcome"]) == ("searxng", "rate_limited")


def test_ask_falls_back_to_snippets_and_says_so(web: LocalWeb, cli: Cli) -> None:
    ran = cli.ok("web", "ask", "What is TarnDB's default write concern?")
    assert "write concern" in ran.out
    assert "note: stage 1: none of" in ran.out


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        (("fetch", "http://127.0.0.1:22/"), 2, "blocked_address: "),
        (("fetch", "ftp://example.org/"), 2, "only http and https"),
        (("search", "x", "--domain", "not a domain"), 2, "'not a domain'"),
        (("search", "qqqqzzzz xxxxwwww"), 1, "no_results: "),
        (("ask", "hello?", "--session", " "), 2, "session_id is empty"),
    ],
)
def test_what_goes_wrong_is_one_line(web: LocalWeb, cli: Cli, words: tuple[str, ...], status: int, part: str) -> None:
    ran = cli("web", *words)
    assert (ran.status, ran.out) == (status, "")
    assert ran.err.startswith("smartmem: error: ")
    assert part in ran.err
    assert ran.err.count("\n") == 1


def test_services_that_are_down_may_be_asked_again(web: LocalWeb, cli: Cli) -> None:
    web.modes |= {"tavily": "500", "searxng": "500"}
    ran = cli("web", "search", "TarnDB")
    assert ran.status == 3
    assert "tavily" in ran.err
    assert "searxng" in ran.err
    assert KEYS["TAVILY_API_KEY"] not in ran.err


def test_a_tool_that_is_switched_off(web: LocalWeb, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMARTMEM_WEB__FETCH__ENABLED", "false")
    assert [tool["name"] for tool in json.loads(cli.ok("web", "tools").out)] == ["web_search", "web_rag_search"]
    assert cli("web", "fetch", "http://example.org/").status == 2


def test_the_two_stages_compared(cli: Cli) -> None:
    found = cli.ok("eval", "web", "--json").json
    assert found["gains"]["tavily"]["difference"] >= 0.20
    assert set(found["metrics"]["latency_ms"]) == {"tavily: snippets", "tavily: pages"}
    assert cli("eval", "web", "--service", "altavista").status == 2
