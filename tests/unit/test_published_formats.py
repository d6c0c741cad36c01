"""Files as LongMemEval, REALTALK and BEAM publish them, with their oddities: read whole, or refused with the place."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from smartmem.errors import BadRecord
from smartmem.evaluation.datasets import load_dataset


def save(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    return path


QUESTION: dict[str, Any] = {
    "question_id": "gpt4_2655b836",
    "question_type": "temporal-reasoning",
    "question": "What was the first issue I had with my new car after its first service?",
    "answer": "GPS system not functioning correctly",
    "question_date": "2023/04/10 (Mon) 23:07",
    "haystack_dates": ["2023/04/10 (Mon) 17:50", "2023/04/10 (Mon) 14:47", "2023/04/10 (Mon) 14:47"],
    "haystack_session_ids": ["answer_4be1b6b4_2", "sharegpt_jpvHGRK_0", "sharegpt_jpvHGRK_0"],
    "haystack_sessions": [
        [
            {"role": "user", "content": "My GPS was wrong on the way, after the service on 3/15.", "has_answer": True},
            {"role": "assistant", "content": "That is annoying.\n\nHave you tried a reset?", "has_answer": False},
        ],
        [{"role": "user", "content": ""}, {"role": "assistant", "content": "您好！有什么可以帮您的吗？"}],
        [],
    ],
    "answer_session_ids": ["answer_4be1b6b4_2"],
}


def changed(record: dict[str, Any], *path: Any, value: Any) -> dict[str, Any]:
    """A copy with one thing in it replaced (`None`: taken out)."""
    made = copy.deepcopy(record)
    spot: Any = made
    for step in path[:-1]:
        spot = spot[step]
    if value is None:
        del spot[path[-1]]
    else:
        spot[path[-1]] = value
    return made


def test_longmemeval_with_a_session_twice_an_empty_one_and_an_abstention(tmp_path: Path) -> None:
    counted = changed(QUESTION, "question_id", value="0a995998") | {"answer": 3, "question_type": "multi-session"}
    abstain = changed(QUESTION, "question_id", value="gpt4_2655b836_abs")
    data = load_dataset("longmemeval-oracle", save(tmp_path / "o.json", [QUESTION, counted, abstain]))
    first, second, third = data.queries
    assert first.relevant == ("gpt4_2655b836/answer_4be1b6b4_2:1",)
    assert first.relevant_sessions == ("gpt4_2655b836/answer_4be1b6b4_2",)
    assert first.at is not None
    assert first.at.isoformat() == "2023-04-10T23:07:00+00:00"
    assert second.answer == "3"  # counts are written as numbers
    assert third.no_answer
    assert not third.relevant
    assert not third.relevant_sessions
    expected = {"conversations": 3, "sessions": 9, "turns": 12, "eligible": 2, "repaired": 0, "refused": 0}
    assert expected.items() <= data.counts().items()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("question",), None, r"record 2 \(q2\), field question: is missing"),
        (("haystack_dates", 1), "May 3", r"record 2 \(q2\), field haystack_dates\[1\]: is 'May 3'"),
        (("haystack_dates",), ["2023/04/10 (Mon) 17:50"], "has 3 sessions, but there are 3 ids and 1 dates"),
        (("haystack_sessions", 0, 1, "role"), "bot", r"haystack_sessions\[0\]\[1\].role: is 'bot', expected one of"),
        (("haystack_sessions", 1, 0, "content"), None, r"haystack_sessions\[1\]\[0\].content: is missing"),
        (("haystack_sessions", 0, 0, "has_answer"), "yes", r"haystack_sessions\[0\]\[0\].has_answer: is 'yes'"),
        (("haystack_sessions", 2), {}, r"haystack_sessions\[2\]: is an object, expected a list"),
        (("answer_session_ids",), "answer_4be1b6b4_2", "answer_session_ids: is a string, expected a list"),
        (("question_id",), "gpt4_2655b836", "conversation 2 has the id 'gpt4_2655b836', which conversation 1 has"),
    ],
)
def test_a_broken_longmemeval_record_is_named(tmp_path: Path, path: tuple[Any, ...], value: Any, message: str) -> None:
    broken = changed(changed(QUESTION, "question_id", value="q2"), *path, value=value)
    with pytest.raises(BadRecord, match=message) as told:
        load_dataset("longmemeval-s", save(tmp_path / "lme.json", [QUESTION, broken]))
    assert "lme.json" in str(told.value)


CHAT: dict[str, Any] = {
    "name": {"speaker_1": "Fay", "speaker_2": "Mo"},
    "session_1": [
        {"clean_text": "Hey good afternoon", "speaker": "Fay K", "date_time": "29.12.2023, 00:51:12", "dia_id": "D1:1"},
        {
            "clean_text": "", "speaker": "Mo", "date_time": "29.12.2023, 09:02:00", "dia_id": "D1:2",
            "img_url": ["https://img.test/1.jpg"], "blip_caption": "a photo of a dog on a beach",
        },
    ],
    "events_session_1": {"agent_a": [], "agent_b": []},
    "session_1_date_time": "29.12.2023, 00:51:12",
    "session_2": [{"clean_text": "早上好 🌞", "speaker": "Mo", "date_time": "30.12.2023, 07:00:01", "dia_id": "D2:1"}],
    "session_2_date_time": "30.12.2023, 07:00:01",
    "session_3_date_time": "31.12.2023, 07:00:01",
    "qa": [
        {"question": "What did Mo see?", "answer": "a dog", "evidence": ["D1:2"], "category": 1},
        {"question": "When did they greet?", "answer": "29 and 30", "evidence": ["D1:1; D2:01"], "category": 2},
        {"question": "Who is older?", "answer": "unknown", "evidence": [], "category": 3},
        {"question": "Who called?", "answer": "Fay", "evidence": ["D9:1"], "category": 3},
    ],
}  # fmt: skip


def test_realtalk_images_own_times_and_evidence_lists(tmp_path: Path) -> None:
    for number in (2, 10):
        save(tmp_path / f"Chat_{number}_Fay_Mo.json", CHAT)
    data = load_dataset("realtalk", tmp_path)
    assert [talk.id for talk in data.conversations] == ["Chat_2_Fay_Mo", "Chat_10_Fay_Mo"]
    turns = list(data.conversations[0].turns())
    assert turns[1].text == "[image: a photo of a dog on a beach]"
    assert turns[1].occurred_at is not None
    assert turns[1].occurred_at.isoformat() == "2023-12-29T09:02:00+00:00"
    expected = {"conversations": 2, "sessions": 4, "turns": 6, "queries": 8, "eligible": 4, "repaired": 2, "refused": 2}
    assert expected.items() <= data.counts().items()
    assert data.queries[1].relevant == ("Chat_2_Fay_Mo/D1:1", "Chat_2_Fay_Mo/D2:1")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("session_1", 0, "clean_text"), None, r"record 1 \(Chat_1\), field session_1\[0\].clean_text: is missing"),
        (("session_2_date_time",), "12/30/2023", r"session_2_date_time: is '12/30/2023'"),
        (("session_2", 0, "dia_id"), "D1:1", r"session_2: dia_id 'D1:1' is already used in session_1"),
        (("session_1", 1, "date_time"), 5, r"session_1\[1\].date_time: is a number, expected a string"),
        (("qa", 2, "category"), "four", r"qa\[2\].category: is a string, expected a whole number"),
        (("qa", 0, "evidence"), {"a": 1}, r"qa\[0\].evidence: is an object, expected a list"),
        (("qa", 0, "question"), None, r"qa\[0\].question: is missing"),
    ],
)
def test_a_broken_realtalk_chat_is_named(tmp_path: Path, path: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(BadRecord, match=message) as told:
        load_dataset("realtalk", save(tmp_path / "Chat_1.json", changed(CHAT, *path, value=value)))
    assert "Chat_1.json" in str(told.value)


BATCHES: list[dict[str, Any]] = [
    {
        "batch_number": 1,
        "turns": [
            [
                {"role": "user", "id": 0, "time_anchor": "March-15-2024", "index": "1,1", "content": "Plan ->-> 1,1"},
                {"role": "assistant", "id": 1, "content": "Certainly!"},
            ],
            [{"role": "user", "id": 2, "index": "1,2", "question_type": "main_question", "content": "I'm Craig."}],
        ],
    },
    {"batch_number": 2, "turns": [[{"role": "user", "id": 3, "time_anchor": "April-02-2024", "content": "Done."}]]},
]  # fmt: skip
PROBES: dict[str, list[dict[str, Any]]] = {
    "abstention": [{"question": "Which car?", "ideal_response": "Not said.", "rubric": ["not said"]}],
    "contradiction_resolution": [
        {
            "question": "Have I planned?", "ideal_answer": "You said both.",
            "source_chat_ids": {"first_statement": [0], "second_statement": [3]},
        }
    ],
    "summarization": [{"question": "Sum up.", "ideal_summary": "A plan.", "source_chat_ids": [0, 1, 2, 3, 3]}],
    "instruction_following": [{"question": "How?", "expected_compliance": "Short.", "source_chat_ids": [99]}],
}  # fmt: skip


def test_beam_as_a_folder_of_sizes_keeps_its_chats_apart(tmp_path: Path) -> None:
    for size, number in (("100K", 2), ("100K", 10), ("500K", 2)):
        folder = tmp_path / "chats" / size / str(number)
        save(folder / "chat.json", BATCHES)
        save(folder / "probing_questions" / "probing_questions.json", PROBES)
    data = load_dataset("beam", tmp_path / "chats")
    assert [talk.id for talk in data.conversations] == ["100K-2", "100K-10", "500K-2"]
    assert [q.answer for q in data.queries[:4]] == ["Not said.", "You said both.", "A plan.", "Short."]
    assert data.queries[0].no_answer
    assert data.queries[1].relevant == ("100K-2/0", "100K-2/3")
    assert data.queries[2].relevant_sessions == ("100K-2/batch_1", "100K-2/batch_2")
    assert data.queries[3].why_ineligible == "no usable source_chat_ids"
    assert {
        "conversations": 3,
        "turns": 12,
        "queries": 12,
        "eligible": 6,
        "refused": 3,
    }.items() <= data.counts().items()
    assert [talk.id for talk in load_dataset("beam", tmp_path / "chats" / "100K").conversations] == ["2", "10"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("chat", 0, "turns", 0, 1, "role"), None, r"chat\[0\].turns\[0\]\[1\].role: is missing"),
        (("chat", 1, "turns", 0, 0, "id"), 1.5, r"chat\[1\].turns\[0\]\[0\].id: is a number, expected a whole number"),
        (("chat", 1, "turns", 0, 0, "time_anchor"), "soon", r"time_anchor: is 'soon'"),
        (("chat", 0, "turns"), None, r"chat\[0\].turns: is missing"),
        (("probing_questions",), "{'abstention': [", "probing_questions: is text that is neither JSON nor a Python"),
        (
            ("probing_questions", "abstention", 0, "question"),
            None,
            r"probing_questions.abstention\[0\].question: is mis",
        ),
        (("probing_questions", "summarization", 0, "source_chat_ids"), ["a"], r"source_chat_ids\[0\]: is a string"),
    ],
)
def test_a_broken_beam_chat_is_named(tmp_path: Path, path: tuple[Any, ...], value: Any, message: str) -> None:
    record = {"conversation_id": "1", "chat": BATCHES, "probing_questions": PROBES}
    with pytest.raises(BadRecord, match=message) as told:
        load_dataset("beam", save(tmp_path / "beam.json", [changed(record, *path, value=value)]))
    assert "beam.json" in str(told.value)
    assert "record 1 (1)" in str(told.value)
