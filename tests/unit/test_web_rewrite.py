"""Questions to sub-queries."""

from __future__ import annotations

import json

import pytest

from smartmem.errors import TransientModelError
from smartmem.llm import ScriptedChat
from smartmem.web.rewrite import LlmRewriter, by_rules


@pytest.mark.parametrize(
    ("question", "queries"),
    [
        ("请问居住证怎么补办？", ["居住证怎么补办？", "居住证 补办"]),
        ("居住证", ["居住证"]),
        ("现在地铁起步价是多少？", ["现在地铁起步价是多少？", "地铁起步价是 2026"]),
        (
            "青云马拉松今年的终点在哪里，抽签结果什么时候出？",
            [
                "青云马拉松今年的终点在哪里，抽签结果什么时候出？",
                "青云马拉松今年的终点在哪里",
                "青云马拉松抽签结果什么时候出",
            ],
        ),
        ("Please, could you tell me the fare?", ["the fare?", "fare"]),
        ("How long is Morrow Ridge?", ["How long is Morrow Ridge?", "Morrow Ridge"]),
        (
            "Which router did Spark Deals pick, and how fast was it?",
            [
                "Which router did Spark Deals pick, and how fast was it?",
                "Which router did Spark Deals pick",
                "how fast was it Spark Deals",
            ],
        ),
        ("？？", []),
    ],
)
def test_rules(question: str, queries: list[str]) -> None:
    assert by_rules(question, 3, 2026) == (queries, "")


def test_rules_keep_to_the_limit() -> None:
    assert by_rules("请问居住证怎么补办？", 1, 2026)[0] == ["居住证怎么补办？"]


def test_llm_adds_to_the_question() -> None:
    model = ScriptedChat({"queries": ["居住证 补办 费用", "居住证  工本费", " "]})
    queries, note = LlmRewriter(model)("居住证怎么补办？", 3, 2026)
    assert queries == ["居住证怎么补办？", "居住证 补办 费用", "居住证 工本费"]
    assert note == ""
    assert json.loads(model.requests[0].user) == {"question": "居住证怎么补办？", "year": 2026}
    assert model.requests[0].schema


@pytest.mark.parametrize("answer", ["no idea", "[1, 2]", '{"a": []}', '{"queries": []}', "[", '"x"'])
def test_llm_without_a_list_falls_back_to_the_rules(answer: str) -> None:
    queries, note = LlmRewriter(ScriptedChat(answer))("居住证怎么补办？", 3, 2026)
    assert queries == by_rules("居住证怎么补办？", 3, 2026)[0]
    assert "rules used" in note


def test_llm_that_fails_falls_back_to_the_rules() -> None:
    model = ScriptedChat(TransientModelError("429"))
    queries, note = LlmRewriter(model)("How long is Morrow Ridge?", 3, 2026)
    assert queries == ["How long is Morrow Ridge?", "Morrow Ridge"]
    assert note == "rewriter llm failed, rules used: 429"
