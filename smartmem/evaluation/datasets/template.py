"""An example of our JSONL format, and help in turning a user's own chats into a labelled set."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from smartmem.errors import DataError

_EXAMPLE: tuple[Mapping[str, Any], ...] = (
    {
        "conversation_id": "chat-1",
        "user_id": 1,
        "role": "user",
        "content": "I moved to Leeds last week and I am allergic to peanuts.",
        "occurred_at": "2026-01-05T09:00:00Z",
        "client_message_id": "m1",
    },
    {
        "conversation_id": "chat-1",
        "user_id": 1,
        "role": "assistant",
        "content": "Noted. How is the new flat?",
        "occurred_at": "2026-01-05T09:00:10Z",
        "client_message_id": "m2",
    },
    {
        "conversation_id": "chat-1",
        "user_id": 1,
        "role": "user",
        "content": "周末想去爬山，有什么推荐的路线吗？",
        "occurred_at": "2026-01-09T18:30:00+08:00",
        "client_message_id": "m3",
    },
    {
        "kind": "query",
        "query_id": "q1",
        "conversation_id": "chat-1",
        "text": "Which food must be avoided?",
        "relevant": ["m1"],
        "category": "constraint",
        "answer": "peanuts",
    },
    {
        "kind": "query",
        "query_id": "q2",
        "conversation_id": "chat-1",
        "text": "Does the user own a car?",
        "relevant": [],
        "category": "no_answer",
    },
)


def write_lines(path: str | Path, records: Iterable[Mapping[str, Any]]) -> Path:
    """Write records as JSONL; a file that exists is not overwritten."""
    file = Path(path)
    try:
        with file.open("x", encoding="utf-8", newline="\n") as handle:
            handle.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    except FileExistsError:
        raise DataError(f"{file} exists already; name another file or delete it") from None
    return file


def write_template(path: str | Path) -> Path:
    """An example file that `load_dataset("jsonl", path)` reads: three messages and two queries."""
    return write_lines(path, _EXAMPLE)
