"""The questions of the local web: what answers them, on which pages, and which pages mislead."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smartmem.errors import BadRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """A sentence that answers, and the pages (host and path) on which it counts: the original and true copies."""

    sentence: str
    pages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with its gold sentences; `wrong` are pages that say something else."""

    id: str
    language: str
    text: str
    answer: str
    gold: tuple[Gold, ...]
    wrong: tuple[str, ...]


def load_questions(path: Path, copies: Mapping[str, Sequence[str]] | None = None) -> list[Question]:
    """Questions from a JSONL file. `copies` names, for a page, other pages that carry its text. Raises `BadRecord`."""
    also = copies or {}
    questions = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            gold = tuple(Gold(sentence=g["sentence"], pages=(g["page"], *also.get(g["page"], ()))) for g in row["gold"])
            questions.append(
                Question(
                    id=row["id"],
                    language=row["lang"],
                    text=row["question"],
                    answer=row["answer"],
                    gold=gold,
                    wrong=tuple(row["wrong"]),
                )
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BadRecord(f"{path}, line {number}: {type(error).__name__}: {error}") from None
    return questions
