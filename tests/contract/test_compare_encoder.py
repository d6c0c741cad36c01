"""The `encoder` comparator on the real model: what it ties together, what it leaves alone, what it says is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from smartmem.errors import ConfigError, MissingModel, ModelError
from smartmem.evaluation.memory_quality import row_of
from smartmem.memory.comparators import Comparison, Relation, create_comparator
from smartmem.memory.compare_encoder import PACKAGED, RELATIONS
from smartmem.memory.extract.encoder import TAGS
from smartmem.memory.extract.tagger import PACKAGED as TAGGERS
from smartmem.memory.histories import Kept, Statement
from smartmem.rag.head import BASE, head
from smartmem.rag.models import fetch, resolve
from smartmem.rag.onnx import loaded
from tests.support.data import list_hashes


@pytest.fixture(scope="module", autouse=True)
def _model(fetched_models: None) -> None:
    fetch(BASE)


def rows(*memories: tuple[str, str]) -> list[Mapping[str, Any]]:
    return [row_of(str(number), Kept(kind=kind, text=text).fact) for number, (kind, text) in enumerate(memories)]


def compared(
    kind: str,
    text: str,
    against: Sequence[Mapping[str, Any]],
    relation: Relation = Relation.UNRELATED,
    **options: object,
) -> list[Comparison]:
    fact = Statement(relation=relation, target=None, kind=kind, text=text).fact
    answers = create_comparator({"name": "encoder", **options}).compare(fact, against)
    assert all(isinstance(one, Comparison) for one in answers)
    return [one for one in answers if isinstance(one, Comparison)]


LIFE = rows(
    ("fact", "I pull espresso in a café in Alfama three mornings a week"),
    ("preference", "I can't get enough of coriander"),
    ("fact", "my lad Theo is six"),
    ("todo_hint", "周五下午要去拔牙"),
)


@pytest.mark.parametrize(
    ("kind", "text", "target", "relations"),
    [
        ("fact", "I quit the café and work at a harbour office now", 0, {Relation.UPDATE, Relation.CONFLICT}),
        ("preference", "coriander tastes of soap to me these days", 1, {Relation.CONFLICT}),
        ("fact", "Theo turned seven on Friday", 2, {Relation.UPDATE}),
        ("todo_hint", "牙医那边改到下周一了", 3, {Relation.UPDATE}),
    ],
)
def test_a_change_without_common_words_or_slots_is_tied_to_its_memory(
    kind: str, text: str, target: int, relations: set[Relation]
) -> None:
    verdicts = compared(kind, text, LIFE)
    assert verdicts[target].relation in relations
    others = [one.relation for place, one in enumerate(verdicts) if place != target]
    assert others == [Relation.UNRELATED] * (len(LIFE) - 1)
    assert all(0 < one.score <= 1 for one in verdicts)
    assert "sure of" in verdicts[target].reason


def test_a_request_to_forget_takes_back_and_nothing_else() -> None:
    verdicts = compared("preference", "forget what I said about coriander", LIFE, Relation.RETRACTION)
    assert [one.relation for one in verdicts] == [
        Relation.UNRELATED, Relation.RETRACTION, Relation.UNRELATED, Relation.UNRELATED,
    ]  # fmt: skip


def test_no_memory_no_answer_and_odd_texts_do_no_harm() -> None:
    assert compared("fact", "I live in Leeds", []) == []
    odd = rows(("fact", "👋" * 3), ("fact", "x" * 900))
    assert len(compared("fact", "</s> <s> " * 90, odd)) == 2


def test_another_number_or_day_is_no_repeat_and_an_allergy_is_one_in_any_words() -> None:
    dentist = rows(("todo_hint", "dentist on the 14th at nine"))
    (verdict,) = compared("todo_hint", "dentist on the 16th at nine", dentist)
    assert verdict.relation is Relation.UPDATE
    nuts = rows(("constraint", "walnuts could kill me, I carry an EpiPen"))
    (verdict,) = compared("constraint", "I'm allergic to walnuts", nuts)
    assert verdict.relation is not Relation.UNRELATED


def test_what_is_missing_or_of_another_kind_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.safetensors.*no such file"):
        create_comparator({"name": "encoder", "adapter": "nowhere.safetensors"})
    with pytest.raises(ModelError, match="expected 5; tune it anew"):  # the extractor's own
        create_comparator({"name": "encoder", "adapter": str(TAGGERS / "encoder.safetensors")})
    monkeypatch.setenv("SMARTMEM_CACHE", str(tmp_path))
    own = tmp_path / "own.safetensors"
    own.write_bytes(PACKAGED.read_bytes())
    with pytest.raises(MissingModel, match="smartmem models get multilingual-e5-small"):
        create_comparator({"name": "encoder", "adapter": str(own)})


def test_what_extracts_compares_and_embeds_reads_with_one_tokenizer() -> None:
    """Each of its own took 280 MB."""
    extracts = head(TAGGERS / "encoder.safetensors", labels=len(TAGS), what="tags")
    compares = head(PACKAGED, labels=len(RELATIONS), what="relations")
    embeds = loaded(resolve(BASE), max_length=512)
    assert extracts.encoder._tokenizer is compares.encoder._tokenizer is embeds._tokenizer
    assert loaded(resolve(BASE), max_length=8)._tokenizer is not embeds._tokenizer


def test_the_adapter_was_tuned_on_the_histories_that_stand_in_the_repository() -> None:
    """Who changes one tunes anew: `make comparator`."""
    card = json.loads(PACKAGED.with_suffix(".json").read_text("utf-8"))
    assert card["files"] == list_hashes("changes")
    ours, rules = card["held_out, encoder"], card["held_out, rules"]
    assert ours["statements"] > 150
    assert ours["decisions"] > rules["decisions"] + 0.1
