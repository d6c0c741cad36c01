"""Folding is stable, and no text from outside breaks it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smartmem.memory.facts import Candidate
from smartmem.memory.normalise import content_hash, normalise_facts
from smartmem.text import cut, normalise
from tests.support.pipeline import START

ANY_TEXT = st.text(st.characters(codec=None), max_size=200)


@given(ANY_TEXT)
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert content_hash("fact", text) == content_hash("fact", once)


@given(ANY_TEXT, st.integers(0, 220))
def test_a_cut_is_a_prefix_and_says_whether_it_cut(text: str, limit: int) -> None:
    kept, was_cut = cut(text, limit)
    assert text.startswith(kept)
    assert len(kept) <= limit
    assert was_cut is (len(text) > limit)


@given(st.lists(st.tuples(st.sampled_from(["fact", "preference", "no such type"]), ANY_TEXT), max_size=6))
def test_every_candidate_is_kept_or_dropped_with_a_reason(said: list[tuple[str, str]]) -> None:
    made = normalise_facts([Candidate(memory_type=kind, content=text) for kind, text in said], START)
    assert len(made.facts) + len(made.dropped) == len(said)
    assert len({fact.content_hash for fact in made.facts}) == len(made.facts)
    for fact in made.facts:
        fact.content.encode("utf-8")
        assert fact.content
        assert fact.title
        again = normalise_facts([Candidate(memory_type=fact.memory_type, content=fact.content)], START)
        assert again.facts[0].content_hash == fact.content_hash
