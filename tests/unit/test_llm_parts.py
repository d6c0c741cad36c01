"""Cache, guard, script and structured answers: no network, no waiting."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from smartmem.errors import MalformedOutput, ModelError, StoreUnavailable, TransientModelError
from smartmem.llm import CachedChat, ChatAnswer, ChatRequest, GuardedChat, ScriptedChat, parse


class Shape(BaseModel):
    name: str
    sides: int


def ask(text: str = "hello") -> ChatRequest:
    return ChatRequest(system="s", user=text)


def answer(text: str, *, complete: bool = True) -> ChatAnswer:
    return ChatAnswer(text=text, model="m", complete=complete)


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ('{"name": "square", "sides": 4}', False),
        ('Sure!\n```json\n{"name": "square", "sides": 4}\n```\nAnything else?', True),
        ("{'name': 'square', sides: 4,}", True),
    ],
)
def test_answers_are_read_and_repaired(text: str, repaired: bool) -> None:
    assert parse(answer(text), Shape) == (Shape(name="square", sides=4), repaired)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("I am sorry, I cannot do that.", "no JSON object"),
        ("", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ('{"name": "square"}', "sides: Field required"),
    ],
)
def test_answers_that_do_not_fit_are_refused(text: str, message: str) -> None:
    with pytest.raises(MalformedOutput, match=message):
        parse(answer(text), Shape)


def test_half_an_answer_is_never_taken_for_a_whole_one() -> None:
    with pytest.raises(MalformedOutput, match="cut off"):
        parse(answer('{"name": "square", "sides": 4}', complete=False), Shape)


def test_the_cache_asks_once_for_each_different_request(tmp_path: Path) -> None:
    script = ScriptedChat("one", "two")
    cache = CachedChat(script, tmp_path / "deep" / "answers.db")
    first, again, other = cache.complete(ask()), cache.complete(ask()), cache.complete(ask("other"))
    assert [first.text, again.text, other.text] == ["one", "one", "two"]
    assert (first.usage.calls, again.usage.calls, again.usage.cached) == (1, 0, 1)
    cache.close()
    reopened = CachedChat(ScriptedChat(), tmp_path / "deep" / "answers.db")
    assert reopened.complete(ask()).text == "one"
    reopened.close()


def test_failures_are_not_cached(tmp_path: Path) -> None:
    cache = CachedChat(ScriptedChat(TransientModelError("429"), "fine"), tmp_path / "answers.db")
    with pytest.raises(TransientModelError):
        cache.complete(ask())
    assert cache.complete(ask()).text == "fine"
    cache.close()


def test_a_cache_that_cannot_be_opened_says_where(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=str(tmp_path)):
        CachedChat(ScriptedChat(), tmp_path)  # a folder is no database


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_the_circuit_opens_after_failures_and_closes_after_one_success() -> None:
    clock = Time()
    script = ScriptedChat(*[TransientModelError("down")] * 3, "up", "up")
    guard = GuardedChat(script, failures=2, pause_s=30, monotonic=clock.monotonic, sleep=clock.sleep)
    for _ in range(2):
        with pytest.raises(TransientModelError, match="down"):
            guard.complete(ask())
    with pytest.raises(TransientModelError, match="2 calls failed in a row; none is made for another 30 s"):
        guard.complete(ask())
    assert len(script.requests) == 2
    clock.now = 31
    with pytest.raises(TransientModelError, match="down"):
        guard.complete(ask())  # the one that tries
    clock.now = 62
    assert [guard.complete(ask()).text for _ in range(2)] == ["up", "up"]


def test_the_rate_limit_makes_callers_wait_their_turn() -> None:
    clock = Time()
    guard = GuardedChat(ScriptedChat("x", loop=True), per_minute=2, monotonic=clock.monotonic, sleep=clock.sleep)
    for _ in range(5):
        guard.complete(ask())
    assert clock.now == 120


def test_a_call_beyond_the_script_is_an_error() -> None:
    script = ScriptedChat({"a": 1})
    assert script.complete(ask()).text == '{"a": 1}'
    with pytest.raises(ModelError, match="this is call 2"):
        script.complete(ask())
