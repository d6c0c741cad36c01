"""Recall on a real database: modes, gates, budgets, fallbacks, scope, as-of, explain and lineage."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from smartmem.db.engine import Database
from smartmem.errors import ScopeError, StoreUnavailable
from smartmem.memory import govern
from smartmem.memory.explain import explain, lineage
from smartmem.memory.extract import Extraction
from smartmem.memory.facts import Candidate, Message
from smartmem.memory.ranking import recency, score
from smartmem.settings import RecallSettings
from tests.support.memory import Chain
from tests.support.pipeline import START, clock_of


class Told:
    """Takes each message as one fact of the type before its colon: 'fact: I live in Leeds'."""

    concurrency = 1

    def extract(self, message: Message) -> Extraction:
        kind, _, said = message.source_text.partition(": ")
        loud = said.endswith("!")
        return Extraction(
            facts=(Candidate(memory_type=kind, content=said, confidence=0.9, is_explicit=loud, slot=_slot(said)),)
        )


def _slot(said: str) -> str | None:
    return "city" if " in " in said else None


def chain_of(db: Database, *said: str, **options: Any) -> Chain:
    chain = Chain(db, "legacy", extractor=Told(), **options)
    chain.hear(*said)
    return chain


def reasons(chain: Chain, query: str, **options: Any) -> dict[str, str]:
    recalled = chain.recaller.recall(1, query, **options)
    return {item.content: item.reason for item in recalled.dropped}


def contents(chain: Chain, query: str, **options: Any) -> list[str]:
    return [item.content for item in chain.recaller.recall(1, query, **options).items]


def test_the_score_is_the_formula_of_the_specification() -> None:
    parts = {"relevance": 0.8, "confidence": 0.6, "recency": 0.5, "explicit": 1.0}
    assert score(parts, RecallSettings()) == pytest.approx(0.45 * 0.8 + 0.25 * 0.6 + 0.20 * 0.5 + 0.10 * 1)
    assert recency(START, START + dt.timedelta(days=90), 90) == pytest.approx(0.5)
    assert recency(START + dt.timedelta(days=1), START, 90) == 1.0


@pytest.mark.parametrize("mode", ["legacy", "rag", "hybrid"])
def test_each_mode_finds_what_is_asked(db: Database, mode: Any) -> None:
    chain = chain_of(db, "fact: I work as a nurse", "preference: I like green tea")
    recalled = chain.recaller.recall(1, "I like green tea", mode=mode)
    assert [item.content for item in recalled.items] == ["I like green tea"]
    (item,) = recalled.items
    assert item.score == pytest.approx(score(item.parts, RecallSettings()))
    assert item.source is not None
    assert (item.source.excerpt, item.source.role) == ("preference: I like green tea", "user")
    assert recalled.fallback_reason is None


def test_constraints_come_whatever_is_asked(db: Database) -> None:
    chain = chain_of(db, "constraint: I'm allergic to peanuts", "fact: I work as a nurse")
    assert contents(chain, "What shall we watch tonight?") == ["I'm allergic to peanuts"]
    assert contents(chain, "What shall we watch tonight?", mode="rag") == []
    assert reasons(chain, "What shall we watch tonight?") == {"I work as a nurse": "LOW_SCORE"}


def test_a_topic_is_found_in_other_words_and_the_other_language(db: Database) -> None:
    chain = chain_of(db, "fact: I live in Leeds")
    assert contents(chain, "我现在住在哪个城市？") == ["I live in Leeds"]


def test_a_user_is_obligatory_and_users_never_meet(db: Database) -> None:
    chain = chain_of(db, "fact: I live in Leeds")
    chain.say("fact: I live in Cork", user_id=2)
    chain.run()
    for mode in ("legacy", "rag", "hybrid"):
        recalled = chain.recaller.recall(2, "Where do I live, in Leeds?", mode=mode, min_score=0)  # type: ignore[arg-type]
        assert {i.content for i in recalled.items} | {i.content for i in recalled.dropped} <= {"I live in Cork"}
    with pytest.raises(ScopeError, match="user_id = 0"):
        chain.recaller.recall(0, "Leeds")


def test_expired_memories_are_gated_and_then_expire(db: Database) -> None:
    chain = chain_of(db, "fact: I live in Leeds")
    (item,) = chain.items()
    govern.edit_memory(db, 1, item.id, version=1, ttl_at=START + dt.timedelta(days=2))
    assert contents(chain, "I live in Leeds") == ["I live in Leeds"]
    clock_of(db).advance(3 * 86400)
    assert reasons(chain, "I live in Leeds") == {"I live in Leeds": "EXPIRED"}
    assert (govern.expire_memories(db, dry_run=True), govern.expire_memories(db), govern.expire_memories(db)) == (
        1,
        1,
        0,
    )
    assert reasons(chain, "I live in Leeds") == {}
    assert chain.items()[0].status == "expired"


def test_settings_gate_reading(db: Database) -> None:
    chain = chain_of(db, "fact: I live in Leeds", "fact: I live in a flat!")
    govern.set_settings(db, 1, implicit_memory_enabled=False)
    assert contents(chain, "I live in Leeds in a flat", min_score=0) == ["I live in a flat!"]
    assert reasons(chain, "I live in Leeds in a flat", min_score=0) == {"I live in Leeds": "SETTING_BLOCKED"}
    govern.set_settings(db, 1, memory_enabled=False)
    recalled = chain.recaller.recall(1, "I live in Leeds")
    assert (recalled.items, recalled.dropped, recalled.blocked) == ((), (), "SETTING_BLOCKED")


def test_sensitive_memories_need_the_switch(db: Database) -> None:
    govern.set_settings(db, 1, sensitive_memory_enabled=True)
    chain = Chain(db)
    chain.hear("I was diagnosed with asthma last year.")
    assert contents(chain, "Do I have asthma?") == ["I was diagnosed with asthma last year"]
    govern.set_settings(db, 1, sensitive_memory_enabled=False)
    assert reasons(chain, "Do I have asthma?") == {"I was diagnosed with asthma last year": "SENSITIVE_BLOCKED"}


def test_topics_and_texts_are_not_repeated(db: Database) -> None:
    cities = [f"fact: I live in {city}" for city in ("Leeds", "York", "Cork")]
    chain = chain_of(db, *cities, "fact: tea helps", "preference: TEA helps")
    dropped = reasons(chain, "Where do I live, and does tea help?", min_score=0)
    assert sorted(dropped.values()) == ["DUPLICATE", "DUP_TOPIC"]


def test_budgets_by_type_and_tokens(db: Database) -> None:
    chain = chain_of(db, *(f"fact: my tea number {n} is green" for n in range(10)), "constraint: never send black tea")
    assert len(contents(chain, "green tea", min_score=0)) == 9  # eight facts and the constraint
    assert list(reasons(chain, "green tea", min_score=0).values()) == ["OVER_BUDGET", "OVER_BUDGET"]
    chain.recaller.settings = RecallSettings(budget_tokens=12)
    assert contents(chain, "green tea", min_score=0)[-1:] == ["never send black tea"]  # constraints first
    assert chain.recaller.recall(1, "green tea", min_score=0).tokens <= 12
    chain.recaller.settings = RecallSettings()
    assert len(contents(chain, "green tea", min_score=0, k=3)) == 3


def test_a_store_that_is_down_falls_back_to_sql_and_says_so(db: Database) -> None:
    chain = chain_of(db, "fact: I live in Leeds")

    def down(*_: Any) -> Any:
        raise StoreUnavailable("the vector store is away")

    chain.store.search = down
    for mode in ("rag", "hybrid"):
        recalled = chain.recaller.recall(1, "I live in Leeds", mode=mode)  # type: ignore[arg-type]
        assert [item.content for item in recalled.items] == ["I live in Leeds"]
        assert recalled.fallback_reason == "StoreUnavailable: the vector store is away"


def test_what_was_true_then(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I live in Leeds.")
    chain.hear("I've moved to Bristol.", day=30)
    now = chain.recaller.recall(1, "Where do I live?")
    then = chain.recaller.recall(1, "Where do I live?", as_of=START + dt.timedelta(days=10))
    assert [item.content for item in now.items] == ["I've moved to Bristol"]
    assert [item.content for item in then.items] == ["I live in Leeds"]
    assert (then.fallback_reason or "").startswith("AS_OF")


def test_use_is_noted_at_most_once_an_hour(db: Database) -> None:
    chain = chain_of(db, "fact: I live in Leeds")
    chain.recaller.recall(1, "I live in Leeds", touch=False)
    assert chain.items()[0].last_access_at is None
    chain.recaller.recall(1, "I live in Leeds")
    first = chain.items()[0]
    assert (first.last_access_at, first.version) == (START, 1)
    clock_of(db).advance(60)
    chain.recaller.recall(1, "I live in Leeds")
    assert chain.items()[0].last_access_at == START


def test_filters_narrow_the_scope(db: Database) -> None:
    chain = chain_of(db, "fact: I live in Leeds", "preference: I live in hope")
    assert contents(chain, "I live in", memory_types=["preference"], min_score=0) == ["I live in hope"]
    assert contents(chain, "I live in", conversation_id="another", min_score=0) == []


def test_rendering_by_type_in_the_language_of_the_question(db: Database) -> None:
    chain = chain_of(db, "fact: I live in Leeds", "constraint: answer briefly")
    recalled = chain.recaller.recall(1, "Where do I live in?")
    assert recalled.render().text.splitlines() == [
        "What you know about the user:",
        "Must follow:",
        "- answer briefly",
        "Facts on the topic:",
        "- I live in Leeds",
    ]
    assert recalled.render("flat", "zh").text.splitlines()[0] == "关于用户，你已知道："


def test_explain_answers_for_every_memory(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I live in Leeds.", "I've moved to Bristol.", "I love jazz.", "I'm allergic to peanuts.")
    told = explain(chain.recaller, 1, "Where do I live?")
    codes = {v.memory.content: v.code for v in told.verdicts}
    assert codes == {
        "I've moved to Bristol": "INJECTED",
        "I'm allergic to peanuts": "INJECTED",
        "I love jazz": "LOW_SCORE",
        "I live in Leeds": "NOT_ACTIVE:superseded",
    }
    assert not told.truncated
    newest = explain(chain.recaller, 1, "Where do I live?", limit=2)
    assert (len(newest.verdicts), newest.truncated) == (2, True)
    assert chain.items()[0].last_access_at is None  # looking is not using


def test_lineage_walks_from_the_message_to_the_vector(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I live in Leeds.")
    (item,) = chain.items()
    steps = lineage(db, 1, item.id, store=chain.store)
    assert [step.stage for step in steps] == ["message", "event", "job", "decision", "memory", "audit", "vector"]
    by_stage = {step.stage: step.facts for step in steps}
    assert by_stage["message"]["content"] == "I live in Leeds."
    assert len({by_stage[s]["trace_id"] for s in ("message", "event", "job", "decision", "audit")}) == 1
    assert by_stage["vector"]["stored"] is True
    assert [state["to"] for state in by_stage["job"]["states"]] == ["pending", "processing", "success"]
    with pytest.raises(govern.NoSuchMemory):
        lineage(db, 2, item.id)
