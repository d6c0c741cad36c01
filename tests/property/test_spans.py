"""Span arithmetic against sets of positions."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartmem.evaluation.spans import (
    intersection,
    length,
    merged,
    precision_omega,
    span_scores,
    token_scores,
    tokens,
)

intervals = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=6
)
some = intervals.filter(lambda spans: any(a < b for a, b in spans))


def positions(spans: list[tuple[int, int]]) -> set[int]:
    return {place for start, end in spans for place in range(start, end)}


@given(intervals, intervals)
def test_unions_and_intersections_are_those_of_sets(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    assert positions(merged(a)) == positions(a)
    assert length(a) == len(positions(a))
    assert positions(intersection(a, b)) == positions(a) & positions(b)
    assert merged(merged(a)) == merged(a)


@given(some, intervals, some, intervals)
def test_scores_are_those_of_sets_over_all_documents(
    gold_x: list[tuple[int, int]],
    got_x: list[tuple[int, int]],
    gold_y: list[tuple[int, int]],
    got_z: list[tuple[int, int]],
) -> None:
    scores = span_scores({"x": gold_x, "y": gold_y}, {"x": got_x, "z": got_z})
    want = {("x", i) for i in positions(gold_x)} | {("y", i) for i in positions(gold_y)}
    got = {("x", i) for i in positions(got_x)} | {("z", i) for i in positions(got_z)}
    assert scores.recall == pytest.approx(len(want & got) / len(want))
    assert scores.precision == pytest.approx(len(want & got) / len(got) if got else 0)
    assert scores.iou == pytest.approx(len(want & got) / len(want | got))
    assert scores.redundancy >= 1


@given(some)
def test_the_gold_itself_is_perfect(gold: list[tuple[int, int]]) -> None:
    scores = span_scores({"x": gold}, {"x": gold})
    assert (scores.recall, scores.precision, scores.iou) == (1, 1, 1)
    assert precision_omega({"x": gold}, {"x": merged(gold)}) == 1


@given(st.text(alphabet="ab 中文。!👋", min_size=1, max_size=30))
def test_tokens_are_disjoint_and_hold_no_space(text: str) -> None:
    found = tokens(text)
    assert all(text[a:b].strip() == text[a:b] != "" for a, b in found)
    assert all(x[1] <= y[0] for x, y in itertools.pairwise(found))
    assert positions(found) >= {i for i, c in enumerate(text) if not c.isspace() and c != "\ufe0f"}


def test_token_scores_count_words_and_characters() -> None:
    text = "I love 北京 a lot"
    # gold "love", got "love 北": two tokens of which one is wanted
    scores = token_scores({"x": [(2, 6)]}, {"x": [(2, 8)]}, {"x": text})
    assert (scores.recall, scores.precision) == (1.0, 0.5)


def test_precision_omega_takes_only_chunks_that_touch_the_gold() -> None:
    chunks = {"x": [(0, 10), (10, 20), (20, 30)]}
    assert precision_omega({"x": [(8, 12)]}, chunks) == pytest.approx(4 / 20)
    assert span_scores({"x": [(8, 12)]}, {"x": [(0, 12), (8, 20)]}).redundancy == pytest.approx(24 / 20)
