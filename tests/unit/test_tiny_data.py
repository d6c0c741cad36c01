"""data/tiny keeps what its card promises. Plain json: the labels must hold without the code measured on them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

TINY = Path(__file__).resolve().parents[2] / "data" / "tiny"
COLUMNS = [("en", 1), ("en", 0), ("zh", 1), ("zh", 0)]  # language, dialogue number modulo 2: the card's column order
NO_FACT = {"question", "quoted_speech", "hypothetical", "small_talk", "task_request", "knowledge_question"}
RELATION_OF = {
    "unrelated": "ADD",
    "duplicate": "NONE",
    "update": "UPDATE",
    "conflict": "DELETE",
    "retraction": "DELETE",
}
OFTEN = [
    "preference",
    "constraint",
    "personal_fact",
    "standing_instruction",
    "todo",
    "explicit",
    "sensitive",
    "correction",
    "update",
    "contradiction",
    "retraction",
    "forget_request",
    "negation",
    "question",
    "quoted_speech",
    "hypothetical",
    "small_talk",
    "task_request",
    "knowledge_question",
    "emoji",
    "long",
]
MINIMUM = {  # in each column, unless it says otherwise
    "users": 4,
    "dialogues": 11,
    "messages": 85,
    "relation unrelated": 20,
    "relation duplicate": 4,
    "relation update": 5,
    "relation conflict": 3,
    "relation retraction": 4,
    **dict.fromkeys(("category preference", "category multi_hop", "category temporal"), 3),
    "category fact": 5,
    "category update": 5,
    "category no_answer": 5,
    **dict.fromkeys([f"phenomenon {tag}" for tag in OFTEN], 3),
    **dict.fromkeys(
        (f"phenomenon {tag}" for tag in ("repeat_exact", "repeat_paraphrase", "mixed_script")),
        2,
    ),
    **dict.fromkeys((f"phenomenon {tag}" for tag in ("fullwidth", "crlf", "mixed")), 1),
}
CATEGORIES = {"preference", "fact", "temporal", "update", "multi_hop", "no_answer"}

Row = dict[str, Any]


def _rows(name: str) -> list[Row]:
    raw = (TINY / f"{name}.jsonl").read_bytes()
    assert b"\r" not in raw
    assert raw.endswith(b"\n")
    return [json.loads(line) for line in raw.decode("utf-8").removesuffix("\n").split("\n")]


DIALOGUES = _rows("dialogues")
FACTS = _rows("facts")
DECISIONS = _rows("decisions")
QUESTIONS = _rows("questions")
PHENOMENA = _rows("phenomena")

DIALOGUE = {d["dialogue_id"]: d for d in DIALOGUES}
TURN = {t["turn_id"]: t for d in DIALOGUES for t in d["turns"]}
DIALOGUE_OF = {t["turn_id"]: d for d in DIALOGUES for t in d["turns"]}
FACT = {f["fact_id"]: f for f in FACTS}
TAGS = {p["turn_id"]: set(p["phenomena"]) for p in PHENOMENA}


def _half(dialogue_id: str) -> int:
    return int(dialogue_id.removeprefix("d")) % 2


def _column(dialogue_id: str) -> tuple[str, int]:
    return DIALOGUE[dialogue_id]["language"], _half(dialogue_id)


def _user_column() -> dict[int, tuple[str, int]]:
    return {d["user_id"]: _column(d["dialogue_id"]) for d in DIALOGUES}


def _when(turn_id: str) -> datetime:
    return datetime.fromisoformat(TURN[turn_id]["occurred_at"])


def _decisions_by_user() -> dict[int, list[Row]]:
    by_user: dict[int, list[Row]] = {}
    for decision in DECISIONS:
        by_user.setdefault(decision["user_id"], []).append(decision)
    return by_user


def test_fields_are_those_of_the_card() -> None:
    for rows, fields in (
        (DIALOGUES, "dialogue_id language user_id conversation_id title turns"),
        ([t for d in DIALOGUES for t in d["turns"]], "turn_id role text occurred_at"),
        (
            FACTS,
            "fact_id dialogue_id turn_id user_id language span memory_type content slot"
            " sensitivity_level is_explicit ttl_at",
        ),
        (DECISIONS, "decision_id user_id dialogue_id turn_id fact_id operation target_fact_id relation"),
        (QUESTIONS, "question_id user_id language question answer evidence facts spans category"),
        (PHENOMENA, "turn_id dialogue_id language role phenomena"),
    ):
        for row in rows:
            assert list(row) == fields.split(), row


def test_ids_are_unique() -> None:
    for rows, key in (
        (DIALOGUES, "dialogue_id"),
        (DIALOGUES, "conversation_id"),
        (FACTS, "fact_id"),
        (DECISIONS, "decision_id"),
        (QUESTIONS, "question_id"),
        (PHENOMENA, "turn_id"),
    ):
        ids = [row[key] for row in rows]
        assert len(set(ids)) == len(ids), key
    assert len(TURN) == sum(len(d["turns"]) for d in DIALOGUES)


def test_dialogues_are_well_formed() -> None:
    for d in DIALOGUES:
        assert re.fullmatch(r"d\d{3}", d["dialogue_id"])
        assert d["conversation_id"] == f"tiny-{d['dialogue_id']}"
        assert d["language"] == ("en" if d["user_id"] < 200 else "zh")
        assert d["title"].strip() == d["title"] != ""
        assert [t["turn_id"] for t in d["turns"]] == [f"{d['dialogue_id']}:{i + 1}" for i in range(len(d["turns"]))]
        roles = [t["role"] for t in d["turns"]]
        assert roles == (["user", "assistant"] * len(roles))[: len(roles)]
        for t in d["turns"]:
            assert t["text"].strip() == t["text"] != ""
            assert len(t["text"]) <= 1500, "SPEC §3 cuts there; a gold span must survive"


def test_each_user_message_is_said_once() -> None:
    said = Counter(t["text"] for t in TURN.values() if t["role"] == "user")
    assert [text for text, n in said.items() if n > 1] == []


def test_every_language_is_written_in_its_script() -> None:
    for d in DIALOGUES:
        han = sum("\u4e00" <= c <= "\u9fff" for t in d["turns"] for c in t["text"])
        assert (han > 50) == (d["language"] == "zh"), d["dialogue_id"]


def test_times_are_aware_and_increase_within_a_dialogue_and_across_a_user() -> None:
    clock: dict[int, datetime] = {}
    for d in sorted(DIALOGUES, key=lambda d: (d["user_id"], _when(d["turns"][0]["turn_id"]))):
        for t in d["turns"]:
            at = _when(t["turn_id"])
            assert at.utcoffset() is not None
            assert 2025 <= at.year <= 2026
            if d["user_id"] in clock:
                assert at > clock[d["user_id"]], t["turn_id"]
            clock[d["user_id"]] = at


def test_dialogue_numbers_of_a_user_follow_time() -> None:
    first: dict[int, datetime] = {}
    for d in sorted(DIALOGUES, key=lambda d: d["dialogue_id"]):
        at = _when(d["turns"][0]["turn_id"])
        assert first.get(d["user_id"], at) <= at
        first[d["user_id"]] = at


def test_a_user_is_wholly_odd_or_wholly_even() -> None:
    for d in DIALOGUES:
        assert _half(d["dialogue_id"]) == d["user_id"] % 2, d["dialogue_id"]


def test_languages_are_balanced_in_both_halves() -> None:
    assert len(set(Counter(_user_column().values()).values())) == 1
    assert len(set(Counter(_column(d["dialogue_id"]) for d in DIALOGUES).values())) == 1


def test_facts_resolve_and_their_spans_quote_the_turn() -> None:
    for f in FACTS:
        d = DIALOGUE[f["dialogue_id"]]
        assert f["turn_id"].startswith(f["dialogue_id"] + ":")
        assert (f["user_id"], f["language"]) == (d["user_id"], d["language"])
        turn = TURN[f["turn_id"]]
        assert turn["role"] == "user"
        start, end = f["span"]
        assert 0 <= start < end <= len(turn["text"])
        quoted = turn["text"][start:end]
        assert quoted.strip() == quoted != ""
        assert f["content"].strip() == f["content"] != ""
        assert len(f["content"]) <= 1000
        assert "\n" not in f["content"]
        assert f["memory_type"] in {"preference", "constraint", "fact", "todo_hint"}
        assert re.fullmatch(r"[a-z][a-z0-9_]*", f["slot"])
        assert f["sensitivity_level"] in (0, 1, 2)
        assert isinstance(f["is_explicit"], bool)


def test_ttl_is_a_day_on_or_after_the_message() -> None:
    for f in FACTS:
        if f["ttl_at"] is None:
            continue
        assert f["memory_type"] == "todo_hint"
        assert date.fromisoformat(f["ttl_at"]) >= _when(f["turn_id"]).date(), f["fact_id"]


def test_facts_of_a_turn_do_not_overlap_and_are_at_most_three() -> None:
    by_turn: dict[str, list[list[int]]] = {}
    for f in FACTS:
        by_turn.setdefault(f["turn_id"], []).append(f["span"])
    for turn_id, spans in by_turn.items():
        assert len(spans) <= 3, turn_id
        ordered = sorted(spans)
        assert all(a[1] <= b[0] for a, b in pairwise(ordered)), turn_id


def test_each_fact_has_one_decision() -> None:
    decided = Counter(d["fact_id"] for d in DECISIONS if d["fact_id"] is not None)
    assert decided == Counter(FACT.keys())


def test_decisions_are_consistent() -> None:
    for c in DECISIONS:
        assert c["operation"] == RELATION_OF[c["relation"]]
        assert (c["target_fact_id"] is None) == (c["operation"] == "ADD")
        assert (c["fact_id"] is None) == (c["relation"] == "retraction")
        assert DIALOGUE_OF[c["turn_id"]]["dialogue_id"] == c["dialogue_id"]
        assert DIALOGUE_OF[c["turn_id"]]["user_id"] == c["user_id"]
        assert TURN[c["turn_id"]]["role"] == "user"
        if c["fact_id"] is not None:
            assert FACT[c["fact_id"]]["turn_id"] == c["turn_id"]
        if c["target_fact_id"] is not None:
            target = FACT[c["target_fact_id"]]
            assert target["user_id"] == c["user_id"]
            assert _when(target["turn_id"]) < _when(c["turn_id"])


def test_decisions_of_a_user_are_in_order_of_time() -> None:
    for decisions in _decisions_by_user().values():
        times = [_when(c["turn_id"]) for c in decisions]
        assert times == sorted(times)


def test_a_slot_holds_one_valid_fact_and_targets_are_valid() -> None:
    for decisions in _decisions_by_user().values():
        valid: dict[str, str] = {}
        for c in decisions:
            new = None if c["fact_id"] is None else FACT[c["fact_id"]]
            target = None if c["target_fact_id"] is None else FACT[c["target_fact_id"]]
            if target is not None:
                assert valid.get(target["slot"]) == target["fact_id"], c["decision_id"]
                assert new is None or new["slot"] == target["slot"], c["decision_id"]
            if c["operation"] == "ADD":
                assert new is not None
                assert new["slot"] not in valid, c["decision_id"]
            if c["relation"] == "retraction":
                assert target is not None
                del valid[target["slot"]]
            elif c["relation"] != "duplicate":
                assert new is not None
                valid[new["slot"]] = new["fact_id"]


def test_questions_resolve_to_the_same_user() -> None:
    repeats = {c["fact_id"]: c["target_fact_id"] for c in DECISIONS if c["relation"] == "duplicate"}
    languages = {d["user_id"]: d["language"] for d in DIALOGUES}
    for q in QUESTIONS:
        assert q["language"] == languages[q["user_id"]]
        assert q["question"].strip() == q["question"] != ""
        assert q["category"] in CATEGORIES
        assert len(set(q["evidence"])) == len(q["evidence"])
        assert {s["turn_id"] for s in q["spans"]} == set(q["evidence"])
        for turn_id in q["evidence"]:
            assert DIALOGUE_OF[turn_id]["user_id"] == q["user_id"]
        for s in q["spans"]:
            quoted = TURN[s["turn_id"]]["text"][s["start"] : s["end"]]
            assert quoted.strip() == quoted != ""
        told = {f for f in FACT if f in q["facts"] or repeats.get(f) in q["facts"]}
        assert not set(q["facts"]) & set(repeats), "a repeat becomes no memory"
        assert {(s["turn_id"], s["start"], s["end"]) for s in q["spans"]} == {
            (FACT[f]["turn_id"], *FACT[f]["span"]) for f in told
        }


def test_no_answer_questions_have_no_evidence_and_the_others_have() -> None:
    for q in QUESTIONS:
        unanswerable = q["category"] == "no_answer"
        assert (q["answer"] is None) == unanswerable
        assert (q["evidence"] == []) == unanswerable
        assert (q["facts"] == []) == unanswerable


def test_only_temporal_questions_point_to_facts_no_longer_valid() -> None:
    gone = {c["target_fact_id"] for c in DECISIONS if c["operation"] in ("UPDATE", "DELETE")}
    replacing = {c["fact_id"] for c in DECISIONS if c["relation"] in ("update", "conflict")}
    for q in QUESTIONS:
        if q["category"] != "temporal":
            assert not set(q["facts"]) & gone, q["question_id"]
        if q["category"] == "update":
            assert set(q["facts"]) <= replacing, q["question_id"]
        if q["category"] == "multi_hop":
            assert len(q["facts"]) >= 2, q["question_id"]


def test_every_user_turn_is_tagged_and_noise_holds_no_fact() -> None:
    holds = {f["turn_id"] for f in FACTS} | {c["turn_id"] for c in DECISIONS}
    for turn_id, turn in TURN.items():
        tags = TAGS.get(turn_id, set())
        if turn["role"] == "user":
            assert tags, turn_id
        if tags & NO_FACT:
            assert (turn_id in holds) == ("mixed" in tags), turn_id
        elif turn["role"] == "user" and turn_id not in holds:
            assert tags & {"negation", "forget_request"}, turn_id


def test_tags_that_follow_from_other_files_do() -> None:
    kinds = {"preference": "preference", "constraint": "constraint", "fact": "personal_fact", "todo_hint": "todo"}
    expected: dict[str, set[str]] = {turn_id: set() for turn_id in TURN}
    for f in FACTS:
        expected[f["turn_id"]].add(kinds[f["memory_type"]])
        if f["is_explicit"]:
            expected[f["turn_id"]].add("explicit")
        if f["sensitivity_level"] == 2:
            expected[f["turn_id"]].add("sensitive")
    relations = {"update": "update", "conflict": "contradiction", "retraction": "retraction"}
    repeated = set()
    for c in DECISIONS:
        if c["relation"] in relations:
            expected[c["turn_id"]].add(relations[c["relation"]])
        if c["relation"] == "duplicate":
            repeated.add(c["turn_id"])
    for turn_id, turn in TURN.items():
        text = turn["text"]
        if any("0" <= unicodedata.normalize("NFKC", c) <= "9" and c > "\uff00" for c in text):
            expected[turn_id].add("fullwidth")
        if "\r\n" in text:
            expected[turn_id].add("crlf")
        if len(text) >= 300:
            expected[turn_id].add("long")
    derived = {*kinds.values(), *relations.values(), "explicit", "sensitive", "fullwidth", "crlf", "long"}
    for turn_id, tags in expected.items():
        got = TAGS.get(turn_id, set())
        assert got & derived == tags, turn_id
        assert bool(got & {"repeat_exact", "repeat_paraphrase"}) == (turn_id in repeated), turn_id


def test_an_exact_repeat_is_said_in_the_words_it_repeats() -> None:
    def quoted(fact_id: str) -> str:
        start, end = FACT[fact_id]["span"]
        text: str = TURN[FACT[fact_id]["turn_id"]]["text"]
        return text[start:end].casefold()

    for c in DECISIONS:
        if c["relation"] == "duplicate":
            exact = quoted(c["fact_id"]) in quoted(c["target_fact_id"])
            assert ("repeat_exact" in TAGS[c["turn_id"]]) == exact, c["decision_id"]


def _counts() -> dict[str, Counter[tuple[str, int]]]:
    users = _user_column()
    counts: dict[str, Counter[tuple[str, int]]] = {
        "users": Counter(users.values()),
        "dialogues": Counter(_column(d["dialogue_id"]) for d in DIALOGUES),
        "messages": Counter(_column(d["dialogue_id"]) for d in DIALOGUE_OF.values()),
        "user_messages": Counter(
            _column(DIALOGUE_OF[turn_id]["dialogue_id"]) for turn_id, t in TURN.items() if t["role"] == "user"
        ),
        "facts": Counter(_column(f["dialogue_id"]) for f in FACTS),
        "decisions": Counter(_column(c["dialogue_id"]) for c in DECISIONS),
        "questions": Counter(users[q["user_id"]] for q in QUESTIONS),
    }
    for prefix, keyed in (
        ("relation", [(c["relation"], _column(c["dialogue_id"])) for c in DECISIONS]),
        ("category", [(q["category"], users[q["user_id"]]) for q in QUESTIONS]),
        ("phenomenon", [(tag, _column(p["dialogue_id"])) for p in PHENOMENA for tag in p["phenomena"]]),
    ):
        for key, column in keyed:
            counts.setdefault(f"{prefix} {key}", Counter())[column] += 1
    return counts


def test_it_is_large_enough_to_measure_on() -> None:
    counts = _counts()
    for name, least in MINIMUM.items():
        assert all(counts[name][column] >= least for column in COLUMNS), (name, counts[name])
    total = {name: sum(n.values()) for name, n in counts.items()}
    assert total["users"] == 16
    assert total["dialogues"] >= 44
    assert total["messages"] >= 340
    assert total["questions"] >= 90
    assert total["category no_answer"] >= 18
    for language in ("en", "zh"):
        assert sum(n for (spoken, _), n in counts["phenomenon long"].items() if spoken == language) >= 8


def test_a_users_chats_spread_over_weeks() -> None:
    days: dict[int, list[date]] = {}
    for d in DIALOGUES:
        days.setdefault(d["user_id"], []).append(_when(d["turns"][0]["turn_id"]).date())
    for user_id, seen in days.items():
        assert len(set(seen)) >= 2, user_id
        assert (max(seen) - min(seen)).days >= 28, user_id


def _card_counts() -> dict[str, list[int]]:
    card: dict[str, list[int]] = {}
    prefix = ""
    for line in (TINY / "README.md").read_text(encoding="utf-8").splitlines():
        if head := re.match(r"\| (\w+) \| en odd \|", line):
            prefix = "" if head[1] == "size" else head[1] + " "
        elif row := re.match(r"\| `(\w+)` \|((?: \d+ \|){5})$", line):
            card[prefix + row[1]] = [int(n) for n in row[2].replace("|", " ").split()]
    return card


def test_the_card_counts_what_is_there() -> None:
    columns = {name: [n[c] for c in COLUMNS] for name, n in _counts().items()}
    assert _card_counts() == {name: [*row, sum(row)] for name, row in columns.items()}
