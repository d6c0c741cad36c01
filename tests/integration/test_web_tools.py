"""The tools as an agent calls them: flags, schemas, arguments, answers as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from smartmem.errors import ConfigError
from smartmem.llm import ScriptedChat
from smartmem.settings import WebSettings
from smartmem.web.tools import NOTICE, WebTools, tool_schemas
from tests.support.local_web import KEYS, LocalWeb

ALL = ["web_search", "web_fetch", "web_rag_search"]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalWeb]:
    with LocalWeb() as running:
        yield running


@pytest.fixture
def web(server: LocalWeb, monkeypatch: pytest.MonkeyPatch) -> LocalWeb:
    server.reset()
    for key, value in KEYS.items():
        monkeypatch.setenv(key, value)
    return server


def tools(web: LocalWeb, **flags: bool) -> WebTools:
    settings = WebSettings(
        search=web.search_settings("tavily", enabled=flags.get("search", True)),
        fetch=web.fetch_settings(enabled=flags.get("fetch", True)),
        rag=WebSettings().rag.model_copy(update={"enabled": flags.get("rag", True)}),
    )
    return WebTools.from_settings(settings, resolver=web.resolver, clock=web.clock)


@pytest.mark.parametrize("schema", tool_schemas(), ids=lambda s: s["name"])
def test_schemas_are_valid_and_closed(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema["input_schema"])
    assert schema["input_schema"]["additionalProperties"] is False
    assert schema["description"]
    assert all(p["description"] for p in schema["input_schema"]["properties"].values())
    assert "session_id" not in schema["input_schema"]["properties"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("web_search", {"query": "居住证 补办", "top_k": 2}),
        ("web_search", {"query": "parking permit", "domain_allow": ["portellery.gov.test"], "recency_days": 365}),
        ("web_fetch", {"url": "http://qingyun-metro.test/lines/7", "max_chars": 100}),
        ("web_rag_search", {"question": "居住证遗失补办要花多少钱？", "top_k": 3}),
    ],
)
def test_calls_that_fit_the_schema_answer_in_json(web: LocalWeb, name: str, arguments: dict[str, Any]) -> None:
    schema = next(s["input_schema"] for s in tool_schemas() if s["name"] == name)
    jsonschema.validate(arguments, schema)
    answer = tools(web).call(name, arguments, session_id="chat-7")
    assert answer["ok"] is True, answer
    assert answer["notice"] == NOTICE
    assert json.loads(json.dumps(answer, ensure_ascii=False)) == answer


def test_evidence_in_json_has_text_address_and_score(web: LocalWeb) -> None:
    answer = tools(web).call("web_rag_search", {"question": "居住证遗失补办要花多少钱？"}, session_id="chat-7")
    best = answer["answer_evidence"][0]
    assert "二十元" in best["text"]
    assert best["url"] == "http://www.qingyun.gov.test/service/residence-permit.html"
    assert isinstance(best["score"], float)
    assert answer["session_id"] == "chat-7"


@pytest.mark.parametrize(
    ("name", "arguments", "word"),
    [
        ("web_delete", {}, "web_delete"),
        ("web_search", {}, "query"),
        ("web_search", {"query": ""}, "query"),
        ("web_search", {"query": "x", "top_k": 99}, "top_k"),
        ("web_search", {"query": "x", "api_key": "y"}, "api_key"),
        ("web_fetch", {"url": 7}, "url"),
        ("web_fetch", {"url": "file:///etc/passwd"}, "http"),
        ("web_rag_search", {"question": "x", "session_id": "someone-else"}, "session_id"),
    ],
)
def test_bad_calls_are_observations(web: LocalWeb, name: str, arguments: dict[str, Any], word: str) -> None:
    answer = tools(web).call(name, arguments, session_id="chat-7")
    assert answer["ok"] is False
    assert answer["observation"]["kind"] == "invalid_input"
    assert word in answer["observation"]["message"]
    assert answer["observation"]["next_step"]
    assert not web.requests


@pytest.mark.parametrize("off", ["search", "fetch", "rag"])
def test_a_tool_that_is_switched_off_is_not_offered(web: LocalWeb, off: str) -> None:
    name = {"search": "web_search", "fetch": "web_fetch", "rag": "web_rag_search"}[off]
    made = tools(web, **{off: False})
    assert made.names() == [n for n in ALL if n != name]
    assert [s["name"] for s in made.schemas()] == made.names()
    argument = {"search": "query", "fetch": "url", "rag": "question"}[off]
    answer = made.call(name, {argument: "http://qingyun-metro.test/lines/7"}, session_id="s")
    assert answer["ok"] is False
    assert "switched off" in json.dumps(answer)
    assert not web.requests


def test_stage_two_works_where_the_single_tools_are_not_offered(web: LocalWeb) -> None:
    made = tools(web, search=False, fetch=False)
    assert made.names() == ["web_rag_search"]
    assert made.ask("居住证遗失补办要花多少钱？", "s").stage == 2


def test_all_off(web: LocalWeb) -> None:
    made = tools(web, search=False, fetch=False, rag=False)
    assert made.schemas() == []
    made.forget("s")


def test_forget_drops_what_a_session_has_read(web: LocalWeb) -> None:
    made = tools(web)
    made.ask("居住证遗失补办要花多少钱？", "s")
    before = len(web.requests)
    made.forget("s")
    made.ask("居住证遗失补办要花多少钱？", "s")
    assert len(web.requests) == 2 * before


def test_a_model_that_is_wanted_must_be_given(web: LocalWeb) -> None:
    settings = WebSettings(rag=WebSettings().rag.model_copy(update={"rewriter": "llm"}))
    with pytest.raises(ConfigError, match="language model"):
        WebTools.from_settings(settings)
    odd = settings.rag.model_copy(update={"model": {"model": "m", "base_url": "http://127.0.0.1:9/v1", "colour": 1}})
    with pytest.raises(ConfigError, match=r"web\.rag\.model: .*colour"):
        WebTools.from_settings(settings.model_copy(update={"rag": odd}))
    made = WebTools.from_settings(
        settings.model_copy(update={"search": web.search_settings("tavily"), "fetch": web.fetch_settings()}),
        model=ScriptedChat({"queries": ["居住证 工本费"]}),
        resolver=web.resolver,
        clock=web.clock,
    )
    assert made.ask("居住证补办多少钱？", "s").sub_queries == ("居住证补办多少钱？", "居住证 工本费")
