"""An example of our JSONL format, and help in turning a user's own chats into a labelled set."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from smartmem.errors import DataError

# Four chats, for an interval is drawn over conversations. The questions use words of their own, as a user's would.
_CHATS = (
    (
        "chat-1",
        1,
        (
            ("user", "2026-01-05T09:00:00Z", "I moved to Leeds last week and I am allergic to peanuts."),
            ("assistant", "2026-01-05T09:00:10Z", "Noted. How is the new flat?"),
            ("user", "2026-01-09T18:30:00+08:00", "周末想去爬山，有什么推荐的路线吗？"),
        ),
        (
            ("constraint", "Which food must be avoided?", ("m1",), "peanuts"),
            ("no_answer", "Does the user own a car?", (), None),
        ),
    ),
    (
        "chat-2",
        1,
        (
            ("user", "2026-02-02T19:12:00Z", "My sister Ana is getting married in Lisbon on 14 June."),
            ("assistant", "2026-02-02T19:12:08Z", "How lovely! Shall I look for flights?"),
            ("user", "2026-02-02T19:13:00Z", "Please do, but I will not fly before ten in the morning."),
        ),
        (
            ("fact", "When is the wedding?", ("m4",), "14 June"),
            ("preference", "How early may the plane leave?", ("m6",), "at ten"),
        ),
    ),
    (
        "chat-3",
        2,
        (
            ("user", "2026-01-20T08:00:00Z", "I play the cello in an amateur orchestra, every Thursday evening."),
            ("assistant", "2026-01-20T08:00:06Z", "Which piece are you working on?"),
            ("user", "2026-01-20T08:01:00Z", "A Brahms symphony. My landlord complains about the noise."),
            ("user", "2026-01-20T08:02:00Z", "He allows no pets either, so my cat lives with my mother."),
        ),
        (
            ("fact", "Which instrument does the user practise?", ("m7",), "the cello"),
            ("fact", "Why can the user keep no animal at home?", ("m10",), "the landlord forbids it"),
        ),
    ),
    (
        "chat-4",
        2,
        (
            ("user", "2026-03-01T07:40:00Z", "I gave up coffee for green tea, because I sleep badly."),
            ("assistant", "2026-03-01T07:40:09Z", "Does it help?"),
            ("user", "2026-03-01T07:41:00Z", "A little. I still wake at five, and then I read."),
        ),
        (
            ("preference", "What does the user drink nowadays?", ("m11",), "green tea"),
            ("fact", "What happens when the night is short?", ("m13",), "the user reads"),
        ),
    ),
)


def _example() -> Iterator[dict[str, Any]]:
    """The messages of each chat, then its questions; messages and questions are numbered through."""
    message, query = itertools.count(1), itertools.count(1)
    for conversation, user, said, asked in _CHATS:
        for role, at, content in said:
            yield {
                "conversation_id": conversation,
                "user_id": user,
                "role": role,
                "content": content,
                "occurred_at": at,
                "client_message_id": f"m{next(message)}",
            }
        for category, text, relevant, answer in asked:
            yield {
                "kind": "query",
                "query_id": f"q{next(query)}",
                "conversation_id": conversation,
                "text": text,
                "relevant": list(relevant),
                "category": category,
                **({"answer": answer} if answer is not None else {}),
            }


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
    """An example file that `load_dataset("jsonl", path)` reads: four short chats with eight queries."""
    return write_lines(path, _example())
