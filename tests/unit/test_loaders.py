"""Benchmarks as datasets: gold, repairs, refusals, and the formats that are known from their publication only."""

import json
from pathlib import Path
from typing import Any

import pytest

from smartmem.errors import BadRecord, DataError
from smartmem.evaluation.datasets import load_dataset, write_template
from smartmem.evaluation.datasets.evidence import repair_dia_ids
from tests.support.data import needs_benchmarks

KNOWN = {"D1:1", "D8:6", "D9:17", "D11:26", "D30:5"}


@pytest.mark.parametrize(
    ("given", "ids", "kinds"),
    [
        (["D8:6", "D8:6"], ("D8:6",), []),
        (["D8:6; D9:17"], ("D8:6", "D9:17"), ["repaired"]),
        (["D8:6 D9:17,D1:1"], ("D8:6", "D9:17", "D1:1"), ["repaired"]),
        (["D:11:26"], ("D11:26",), ["repaired"]),
        (["D30:05"], ("D30:5",), ["repaired"]),
        (["D"], (), ["refused"]),
        (["D7:7", "D1:1"], ("D1:1",), ["refused"]),
        (["D1:1; D7:7"], ("D1:1",), ["repaired", "refused"]),
        ([7], (), ["refused"]),
        ([""], (), ["refused"]),
        (["see D1:1"], (), ["refused"]),
        ([], (), []),
    ],
)
def test_evidence_is_repaired_where_plain_and_refused_where_not(
    given: list[object], ids: tuple[str, ...], kinds: list[str]
) -> None:
    found, notes = repair_dia_ids(given, KNOWN, "q")
    assert found == ids
    assert [note.kind for note in notes] == kinds


def save(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    return path


def a_haystack(**change: Any) -> dict[str, Any]:
    return {
        "question_id": "q1",
        "question_type": "multi-session",
        "question": "Where?",
        "answer": 3,
        "question_date": "2023/05/30 (Tue) 23:40",
        "haystack_session_ids": ["a", "b"],
        "haystack_dates": ["2023/05/20 (Sat) 02:21", "2023/05/21 (Sun) 02:21"],
        "haystack_sessions": [
            [{"role": "user", "content": "x", "has_answer": True}, {"role": "assistant", "content": "y"}],
            [{"role": "user", "content": "z", "has_answer": False}],
        ],
        "answer_session_ids": ["a", "lost"],
    } | change


def test_longmemeval_gold_abstention_and_lost_sessions(tmp_path: Path) -> None:
    records = [a_haystack(), a_haystack(question_id="q2_abs"), a_haystack(question_id="q3", haystack_sessions=[[], []])]
    data = load_dataset("longmemeval-s", save(tmp_path / "any.json", records))
    first, abstain, bare = data.queries
    assert first.relevant == ("q1/a:1",)
    assert first.relevant_sessions == ("q1/a",)
    assert first.answer == "3"
    assert abstain.no_answer
    assert not abstain.relevant
    assert "abstention" in abstain.why_ineligible
    assert not bare.relevant
    assert bare.relevant_sessions == ("q3/a",)
    assert [note.field for note in data.notes] == ["answer_session_ids[1]"] * 3
    assert data.counts()["refused"] == 3
    assert load_dataset("longmemeval-s", tmp_path / "any.json", limit=1).counts()["queries"] == 1
    broken = a_haystack()
    del broken["answer_session_ids"]
    with pytest.raises(BadRecord, match=r"record 1 \(q1\), field answer_session_ids: is missing"):
        load_dataset("longmemeval-m", save(tmp_path / "any.json", [broken]))


def a_chat(**change: Any) -> dict[str, Any]:
    turn = {"speaker": "Ann", "date_time": "29.12.2023, 21:46:47"}
    return {
        "name": {"speaker_1": "Ann", "speaker_2": "Bo"},
        "session_1_date_time": "29.12.2023, 21:46:47",
        "session_1": [turn | {"clean_text": "Hi", "dia_id": "D1:1"}, turn | {"clean_text": "Yo", "dia_id": "D1:2"}],
        "qa": [
            {"question": "Who?", "answer": "Ann", "evidence": ["D1:1; D1:02"], "category": "1"},
            {"question": "When?", "answer": "now", "evidence": ["D4:1"], "category": 2},
        ],
    } | change


def test_realtalk_from_a_folder_and_from_one_file(tmp_path: Path) -> None:
    for number in (1, 2):
        save(tmp_path / f"Chat_{number}_Ann_Bo.json", a_chat())
    data = load_dataset("realtalk", tmp_path)
    assert data.counts() | {"repaired": 2, "refused": 2, "eligible": 2, "ineligible": 2, "turns": 4} == data.counts()
    assert data.queries[0].relevant == ("Chat_1_Ann_Bo/D1:1", "Chat_1_Ann_Bo/D1:2")
    assert data.queries[0].category == "multi_hop"
    assert data.queries[1].why_ineligible == "no usable evidence"
    assert len(load_dataset("realtalk", tmp_path / "Chat_2_Ann_Bo.json").queries) == 2
    save(tmp_path / "Chat_2_Ann_Bo.json", a_chat(qa=[{"question": "?", "evidence": [], "category": 9}]))
    with pytest.raises(BadRecord, match=r"Chat_2_Ann_Bo.*qa\[0\].category: is 9, expected one of 1, 2, 3"):
        load_dataset("realtalk", tmp_path)


@pytest.mark.parametrize("as_text", [None, json.dumps, repr])
def test_beam_questions_by_ability_in_each_published_form(tmp_path: Path, as_text: Any) -> None:
    questions: Any = {
        "information_extraction": [{"question": "What?", "answer": "tea", "source_chat_ids": [0, 9]}],
        "contradiction_resolution": [{"question": "Which?", "source_chat_ids": {"first": [1], "second": [[2]]}}],
        "abstention": [{"question": "Why?", "ideal_response": "It was not said."}],
    }
    turns = [{"role": "user", "content": f"t{i}", "id": i} for i in range(3)] + [
        {"role": "user", "content": "d", "id": 1}
    ]
    record = {
        "conversation_id": 5,
        "chat": [turns],
        "probing_questions": as_text(questions) if as_text else questions,
    }
    data = load_dataset("beam", save(tmp_path / "b.json", [record]))
    one, two, three = data.queries
    assert one.relevant == ("5/0",)
    assert one.category == "information_extraction"
    assert two.relevant == ("5/2",)  # id 1 stands for two turns: refused, not guessed
    assert three.no_answer
    assert three.answer == "It was not said."
    assert [note.value for note in data.notes] == ["9", "1"]
    record["probing_questions"] = {"abstention": [{"source_chat_ids": ["x"]}]}
    with pytest.raises(BadRecord, match=r"source_chat_ids\[0\]: is a string"):
        load_dataset("beam", save(tmp_path / "b.json", [record]))


def test_own_jsonl_from_the_template_and_its_refusals(tmp_path: Path) -> None:
    file = write_template(tmp_path / "mine.jsonl")
    data = load_dataset("jsonl", file)
    assert data.counts() | {"conversations": 4, "turns": 13, "queries": 8, "eligible": 7} == data.counts()
    assert not data.hash_checked
    with pytest.raises(DataError, match="exists already"):
        write_template(file)
    text = file.read_text("utf-8")
    for change, message in (
        (('"m1"]', '"m9"]'), r"line 4, field relevant\[0\]: is 'm9'"),
        (('"q2"', '"q1"'), "which another query has"),
        (('"category": "no_answer"', '"categorie": 1'), "categorie: is unknown"),
    ):
        file.write_text(text.replace(*change), "utf-8")
        with pytest.raises(BadRecord, match=message):
            load_dataset("jsonl", file)


def test_tiny_joins_the_dialogues_of_a_user() -> None:
    data = load_dataset("smartmem-tiny")
    assert {talk.id for talk in data.conversations} == {f"user-{talk.user_id}" for talk in data.conversations}
    assert {query.language for query in data.queries} == {"en", "zh"}
    for query in data.queries:
        assert query.no_answer == (query.category == "no_answer") == (not query.relevant)
    texts = {key: turn.text for key, _, turn in data.turns()}
    assert all(texts[span.turn][span.start : span.end].strip() for query in data.queries for span in query.spans)


@needs_benchmarks
@pytest.mark.benchmark_data
def test_locomo_counts_are_those_of_the_paper_and_nothing_is_dropped() -> None:
    data = load_dataset("locomo")
    assert data.counts() == {
        "conversations": 10, "sessions": 272, "turns": 5882, "queries": 1986, "eligible": 1982, "ineligible": 4,
        "repaired": 6, "refused": 3, "corrected": 0,
    }  # fmt: skip
    assert data.hash_checked
    assert {note.record for note in data.notes} == {
        "locomo_0_qa37", "locomo_3_qa58", "locomo_3_qa88", "locomo_4_qa18", "locomo_6_qa38",
        "locomo_8_qa31", "locomo_8_qa38", "locomo_8_qa46", "locomo_9_qa69",
    }  # fmt: skip
    categories = {query.category for query in data.queries}
    assert categories == {"multi_hop", "temporal", "open_domain", "single_hop", "adversarial"}


@needs_benchmarks
@pytest.mark.benchmark_data
def test_the_audit_is_laid_over_locomo() -> None:
    plain, data = load_dataset("locomo"), load_dataset("locomo-corrected")
    assert data.counts()["corrected"] == 156
    assert data.counts()["queries"] == 1986
    changed = [q.id for q, p in zip(data.queries, plain.queries, strict=True) if q.relevant != p.relevant]
    assert set(changed) <= {note.record for note in data.notes if note.kind == "corrected"}
    assert len(changed) > 50


@needs_benchmarks
@pytest.mark.benchmark_data
@pytest.mark.parametrize(("name", "memories"), [("madial-zh", 171), ("madial-en", 160)])
def test_madial(name: str, memories: int) -> None:
    data = load_dataset(name)
    assert data.counts() | {"turns": memories, "queries": 160, "eligible": 160, "refused": 0} == data.counts()
    assert len({query.group for query in data.queries}) == 160
    assert len(data.conversations) == 2  # a store a child, as the authors' code searches it
    homes = data.session_of()
    assert all(turn in homes and homes[turn].startswith(q.conversation_id) for q in data.queries for turn in q.relevant)
