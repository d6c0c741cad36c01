"""Conversation files: what each format gives, and what a user is told about a broken one."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from smartmem.chat.importers import FORMATS, parse, read_messages, scan
from smartmem.chat.importers.fields import beam_time, json_array, locomo_time, longmemeval_time, realtalk_time
from smartmem.errors import BadRecord, ConfigError, DataError
from smartmem.types import Role
from tests.support.data import LOCOMO, ROOT, needs_benchmarks


def write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), "utf-8")
    return path


def a_locomo_file(**turn: Any) -> list[dict[str, Any]]:
    first = {"speaker": "Ann", "dia_id": "D1:1", "text": "Hello"} | turn
    return [
        {
            "sample_id": "conv-1",
            "conversation": {
                "speaker_a": "Ann",
                "speaker_b": "Bo",
                "session_1_date_time": "12:05 am on 1 March, 2024",
                "session_1": [
                    {key: value for key, value in first.items() if value is not None},
                    {"speaker": "Bo", "dia_id": "D1:2", "text": "Look", "blip_caption": "a red kite"},
                ],
                "session_2_date_time": "1:00 pm on 2 March, 2024",
            },
            "qa": [],
        }
    ]


def a_session(*contents: str) -> list[dict[str, str]]:
    return [{"role": "user" if i % 2 == 0 else "assistant", "content": text} for i, text in enumerate(contents)]


def test_locomo_turns_of_both_people_are_user_messages_with_captions_and_dates(tmp_path: Path) -> None:
    messages = list(read_messages(write(tmp_path / "l.json", a_locomo_file()), "locomo"))
    assert [(m.role, m.speaker, m.client_message_id) for m in messages] == [
        (Role.USER, "Ann", "D1:1"),
        (Role.USER, "Bo", "D1:2"),
    ]
    assert messages[1].content == "Look [image: a red kite]"
    assert messages[0].occurred_at == dt.datetime(2024, 3, 1, 0, 5, tzinfo=dt.UTC)
    assert {(m.conversation_id, m.user_id, m.session_id) for m in messages} == {("conv-1", 1, "session_1")}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"speaker": None}, ["record 1 (conv-1)", "conversation.session_1[0].speaker", "is missing"]),
        ({"speaker": "Cy"}, ["session_1[0].speaker", "'Cy'", "Ann, Bo"]),
        ({"text": 7}, ["session_1[0].text", "a number", "expected a string"]),
        ({"text": "  "}, ["session_1[0].text", "blank"]),
        ({"dia_id": "D1:2"}, ["D1:2", "already used"]),
    ],
)
def test_a_broken_locomo_turn_is_refused_with_file_record_and_field(
    tmp_path: Path, change: dict[str, Any], words: list[str]
) -> None:
    file = write(tmp_path / "l.json", a_locomo_file(**change))
    with pytest.raises(BadRecord) as caught:
        read_messages(file, "locomo")  # before anything is handed out
    for word in [str(file), *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize("cut", [30, 120, -3, -1])
def test_a_truncated_file_says_that_it_is_cut_off(tmp_path: Path, cut: int) -> None:
    text = json.dumps(a_locomo_file())
    with pytest.raises(BadRecord, match="cut off"):
        scan(write(tmp_path / "l.json", text[:cut]), "locomo")


def test_missing_files_folders_bytes_and_formats_have_their_own_messages(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        scan(tmp_path / "none.json", "locomo")
    with pytest.raises(DataError, match="is a folder"):
        scan(tmp_path, "locomo")
    with pytest.raises(ConfigError, match="known are: jsonl"):
        scan(tmp_path, "loco")
    (tmp_path / "bytes.json").write_bytes(b'[{"a": "\xff"}]')
    with pytest.raises(BadRecord, match="not UTF-8"):
        scan(tmp_path / "bytes.json", "locomo")
    with pytest.raises(BadRecord, match="expected a list of records"):
        scan(write(tmp_path / "o.json", {"a": 1}), "locomo")
    with pytest.raises(DataError, match="holds no message"):
        scan(write(tmp_path / "e.jsonl", "\n"), "jsonl")


def test_a_list_is_read_in_pieces_whatever_its_white_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [{"n": n, "text": "x" * (n % 7), "list": [1, {"deep": "]},["}]} for n in range(50)]
    for block in (1, 7, 64):
        monkeypatch.setattr("smartmem.chat.importers.fields._BLOCK", block)
        for indent in (None, 2):
            file = write(tmp_path / "a.json", " \n" + json.dumps(values, indent=indent) + "\n ")
            assert [v for _, v in json_array(file)] == values
    with pytest.raises(BadRecord, match="text after the end"):
        list(json_array(write(tmp_path / "b.json", "[{}] x")))
    with pytest.raises(BadRecord, match="after record 1"):
        list(json_array(write(tmp_path / "c.json", "[{} {}]")))
    assert list(json_array(write(tmp_path / "d.json", "[ ]"))) == []


def test_jsonl_groups_by_conversation_and_session(tmp_path: Path) -> None:
    line = {"conversation_id": "c", "user_id": 4, "role": "user", "occurred_at": "2026-01-01T08:00:00+08:00"}
    rows = [
        line | {"content": "你好👋", "session_id": "s1"},
        {"kind": "query", "anything": "belongs to the evaluation"},
        line | {"content": "b", "session_id": "s2", "client_message_id": "m2", "speaker": "Ann"},
    ]
    file = write(tmp_path / "c.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    messages = list(read_messages(file, "jsonl"))
    assert [(m.session_id, m.client_message_id, m.speaker) for m in messages] == [
        ("s1", "line-1", "user"),
        ("s2", "m2", "Ann"),
    ]
    assert messages[0].content == "你好👋"
    assert messages[0].occurred_at == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"user_id": 0}, ["line 2, field user_id", "at least 1"]),
        ({"user_id": True}, ["user_id", "true/false"]),
        ({"user_id": 9}, ["user_id", "belongs to user 4"]),
        ({"role": "robot"}, ["role", "'robot'", "user, assistant"]),
        ({"occurred_at": "2026-01-01T08:00:00"}, ["occurred_at", "time zone"]),
        ({"occurred_at": "yesterday"}, ["occurred_at", "'yesterday'"]),
        ({"contents": "x"}, ["contents", "unknown"]),
        ({"client_message_id": "line-1"}, ["client_message_id", "line 1"]),
        ({"conversation_id": "x" * 192}, ["over 191 characters"]),
    ],
)
def test_a_broken_line_is_refused_before_any_message(tmp_path: Path, change: dict[str, Any], words: list[str]) -> None:
    line = {
        "conversation_id": "c", "user_id": 4, "role": "user", "content": "a", "occurred_at": "2026-01-01T00:00:00Z"
    }  # fmt: skip
    file = write(tmp_path / "c.jsonl", json.dumps(line) + "\n" + json.dumps(line | change))
    with pytest.raises(BadRecord) as caught:
        read_messages(file, "jsonl")
    for word in words:
        assert word in str(caught.value)


def test_realtalk_reads_one_chat_or_a_folder_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for number in (10, 2):
        chat = {
            "name": {"speaker_1": "Ann", "speaker_2": "Bo"},
            "session_1_date_time": "29.12.2023, 21:46:47",
            "session_1": [
                {"clean_text": "Hi", "speaker": "Ann", "dia_id": "D1:1", "date_time": "29.12.2023, 21:46:47"},
                {"clean_text": "", "speaker": "Bo", "dia_id": "D1:2", "date_time": "29.12.2023, 21:50:00",
                 "blip_caption": "a cup"},
            ],
            "qa": [],
        }  # fmt: skip
        write(tmp_path / f"Chat_{number}_Ann_Bo.json", chat)
    messages = list(read_messages(tmp_path, "realtalk"))
    assert [m.conversation_id for m in messages[::2]] == ["Chat_2_Ann_Bo", "Chat_10_Ann_Bo"]
    assert [m.user_id for m in messages[::2]] == [1, 2]
    assert messages[1].content == "[image: a cup]"
    assert messages[1].occurred_at == dt.datetime(2023, 12, 29, 21, 50, tzinfo=dt.UTC)
    one = list(read_messages(tmp_path / "Chat_10_Ann_Bo.json", "realtalk"))
    assert len(one) == 2
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"no \*.json"):
        scan(empty, "realtalk")


def test_longmemeval_gives_each_question_its_own_sessions(tmp_path: Path) -> None:
    record = {
        "question_id": "q1",
        "question_type": "single-session-user",
        "question": "?",
        "answer": "!",
        "question_date": "2023/05/30 (Tue) 23:40",
        "haystack_session_ids": ["s", "s", "t"],
        "haystack_dates": ["2023/05/20 (Sat) 02:21"] * 3,
        "haystack_sessions": [a_session("a", "b"), a_session("c"), []],
        "answer_session_ids": ["t"],
    }
    messages = list(read_messages(write(tmp_path / "s.json", [record]), "longmemeval"))
    assert [(m.client_message_id, m.role) for m in messages] == [
        ("s:1", Role.USER),
        ("s:2", Role.ASSISTANT),
        ("s#2:1", Role.USER),
    ]
    with pytest.raises(BadRecord, match="3 sessions, but there are 2 ids"):
        scan(write(tmp_path / "s.json", [record | {"haystack_session_ids": ["s", "t"]}]), "longmemeval")
    dates = ["2023/05/20 (Sat) 02:21", "20 May", "2023/05/20 (Sat) 02:21"]
    with pytest.raises(BadRecord, match=r"haystack_dates\[1\].*'20 May'"):
        scan(write(tmp_path / "s.json", [record | {"haystack_dates": dates}]), "longmemeval")
    broken = [a_session("a"), [{"role": "user"}], []]
    with pytest.raises(BadRecord, match=r"haystack_sessions\[1\]\[0\].content: is missing"):
        scan(write(tmp_path / "s.json", [record | {"haystack_sessions": broken}]), "longmemeval")


def test_madial_lines_lose_their_marks_and_a_nameless_line_is_the_assistants(tmp_path: Path) -> None:
    record = {
        "dialogue": ["<BOD>\n", ' <Bo>:"你好！"\n', '"No name here."\n', "<EOD>\n"],
        "test-turn": [2],
        "relevant-id": [1],
        "user-id": 2,
    }
    messages = list(read_messages(write(tmp_path / "m.json", json.dumps(record, ensure_ascii=False)), "madial"))
    assert [(m.speaker, m.role, m.content, m.client_message_id) for m in messages] == [
        ("Bo", Role.USER, "你好！", "1"),
        ("Assistant", Role.ASSISTANT, "No name here.", "2"),
    ]
    assert messages[0].user_id == 2


@pytest.mark.parametrize("shape", ["flat", "nested", "objects"])
def test_beam_reads_its_shapes_of_batches(tmp_path: Path, shape: str) -> None:
    turns = [
        {"role": "user", "content": "a", "id": 0, "time_anchor": "March-15-2024"},
        {"role": "assistant", "content": "b", "id": 1},
    ]
    batch: Any = {"flat": turns, "nested": [turns], "objects": {"turns": [turns], "time_anchor": "2024-03-15"}}[shape]
    file = write(tmp_path / "beam.json", [{"conversation_id": "7", "chat": [batch], "probing_questions": {}}])
    messages = list(read_messages(file, "beam"))
    assert [(m.client_message_id, m.session_id) for m in messages] == [("0", "batch_1"), ("1", "batch_1")]
    assert messages[1].occurred_at == dt.datetime(2024, 3, 15, tzinfo=dt.UTC)
    folder = tmp_path / "chats" / "100K" / "3"
    folder.mkdir(parents=True)
    write(folder / "chat.json", [batch])
    assert [m.conversation_id for m in read_messages(tmp_path / "chats", "beam")] == ["100K-3", "100K-3"]
    del turns[1]["role"]
    with pytest.raises(BadRecord, match="role: is missing"):
        scan(write(tmp_path / "beam.json", [{"chat": [turns]}]), "beam")


@pytest.mark.parametrize("reader", [locomo_time, longmemeval_time, realtalk_time])
@pytest.mark.parametrize("text", ["", "13:00 pm on 1 May, 2023", "31.31.2023, 25:00", "2023/13/40 (Sat) 02:21"])
def test_times_that_are_none_are_refused(reader: Any, text: str) -> None:
    with pytest.raises(ValueError):
        reader(text)


def test_months_of_beam_anchors() -> None:
    assert {beam_time(text) for text in ("March-15-2024", "Mar 15, 2024", "2024-03-15", "2024-03-15T00:00:00Z")} == {
        dt.datetime(2024, 3, 15, tzinfo=dt.UTC)
    }
    for text in ("Ma 15, 2024", "soon", "Month-15-2024"):
        with pytest.raises(ValueError, match="expected a time"):
            beam_time(text)


def test_noon_and_midnight() -> None:
    assert locomo_time("12:00 pm on 1 May, 2023").hour == 12
    assert locomo_time("12:30 am on 1 May, 2023").hour == 0


def test_tiny_is_one_conversation_a_dialogue() -> None:
    summary = scan(ROOT / "data" / "tiny", "tiny")
    assert summary.conversations == summary.sessions == len(list(parse(ROOT / "data" / "tiny", "tiny")))
    assert "tiny" in FORMATS


@needs_benchmarks
@pytest.mark.benchmark_data
def test_the_real_locomo_file() -> None:
    summary = scan(LOCOMO, "locomo")
    assert (summary.conversations, summary.sessions, summary.messages) == (10, 272, 5882)
    messages = list(read_messages(LOCOMO, "locomo", scanned=True))
    assert len({(m.conversation_id, m.client_message_id) for m in messages}) == 5882
    assert {m.user_id for m in messages} == set(range(1, 11))
