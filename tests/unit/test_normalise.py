"""Candidates become facts: every bad value has a code, and none of them loses the message."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import pytest

from smartmem.memory.facts import Candidate, Message
from smartmem.memory.normalise import Normalised, content_hash, normalise_facts
from tests.support.pipeline import START


def one(**changes: Any) -> Normalised:
    values: dict[str, Any] = {"memory_type": "fact", "content": "I live in Leeds"}
    return normalise_facts([Candidate(**(values | changes))], START)


def codes(notes: Any) -> list[str]:
    return [note.code for note in notes]


def test_defaults_by_type() -> None:
    for kind, importance in (("constraint", 0.95), ("preference", 0.85), ("todo_hint", 0.8), ("fact", 0.6)):
        (fact,) = one(memory_type=kind).facts
        assert (fact.confidence, fact.importance) == (0.6, importance)
        assert (fact.valid_from, fact.title) == (START, "I live in Leeds")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1, 1.5, "0.9", True])
def test_a_confidence_that_is_none_becomes_the_default_and_says_so(bad: Any) -> None:
    made = one(confidence=bad)
    assert made.facts[0].confidence == 0.6
    assert codes(made.notes) == ["CONFIDENCE_INVALID"]


def test_unknown_types_and_blanks_are_dropped_with_a_reason() -> None:
    made = normalise_facts(
        [Candidate(memory_type="opinion", content="x"), Candidate(memory_type="fact", content=" \u3000\n")], START
    )
    assert made.facts == ()
    assert codes(made.dropped) == ["UNKNOWN_TYPE", "BLANK"]


def test_a_megabyte_is_cut_between_graphemes() -> None:
    family = "👨‍👩‍👧"
    made = one(content=family * 200_000)
    assert codes(made.notes) == ["CONTENT_CUT"]
    assert len(made.facts[0].content) == 1000 // len(family) * len(family)
    assert made.facts[0].title == family * (64 // len(family))


def test_a_time_limit_before_the_fact_is_taken_off() -> None:
    made = one(ttl_at=START - dt.timedelta(days=1))
    assert made.facts[0].ttl_at is None
    assert codes(made.notes) == ["TTL_IN_PAST"]


def test_unknown_sensitivity_counts_as_sensitive() -> None:
    made = one(sensitivity_level="high")
    assert made.facts[0].sensitivity_level == 2
    assert codes(made.notes) == ["SENSITIVITY_INVALID"]


def test_lone_surrogates_and_nul_become_storable() -> None:
    made = one(content="a\ud800b\x00c")
    assert made.facts[0].content == "a\ufffdb\ufffdc"
    assert codes(made.notes) == ["CHARS_REPLACED"]


def test_the_batch_is_deduplicated_filtered_and_bounded() -> None:
    said = ["I like tea", "Ｉ LIKE  tea", "I like jazz", "I like chess", "I like rain"]
    candidates = [
        Candidate(memory_type="preference", content=text, confidence=c)
        for text, c in zip(said, [0.9, 0.9, 0.4, 0.6, 0.8], strict=True)
    ]
    made = normalise_facts(candidates, START, min_confidence=0.5, max_facts=2)
    assert [fact.content for fact in made.facts] == ["I like tea", "I like rain"]
    assert codes(made.dropped) == ["DUPLICATE_IN_BATCH", "LOW_CONFIDENCE", "TOO_MANY"]


def test_hash_is_of_type_and_folded_text() -> None:
    assert content_hash("fact", "Ｉ like  TEA ") == content_hash("fact", "i like tea")
    assert content_hash("fact", "i like tea") != content_hash("preference", "i like tea")
    # echo -n 'fact::i like tea' | sha256sum
    assert content_hash("fact", "I like tea") == "0ee3b1f1051af31c867501202ddd9c9d3d8a715cb1dee9b9b1490f6864f06707"


def test_payloads_name_what_is_wrong_with_them() -> None:
    from smartmem.errors import BadRecord

    with pytest.raises(BadRecord, match="user_id"):
        Message.parse({"user_id": 0, "source_text": "x", "occurred_at": START.isoformat()})
    with pytest.raises(BadRecord, match="occurred_at"):
        Message.parse({"user_id": 1, "source_text": "x"})
