"""Score, gates and budgets of recall.

    score = 0.45·relevance + 0.25·confidence + 0.20·recency + 0.10·explicit          (weights are settings)

* relevance, 0..1: the best of cosine similarity (calibrate.py), word overlap weighted by rarity, and a shared topic.
* recency: 0.5 ^ (age / half-life). Age counts from the user's newest memory, not from the wall clock: someone who
  comes back after a year finds the ranking that they left.
* Standing memories (constraints, strong preferences) hold whatever is asked: LOW_SCORE does not touch them, budgets do.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from smartmem.db.tables import memory_items
from smartmem.memory.inject import TYPE_ORDER, count_tokens
from smartmem.memory.reading import Scope
from smartmem.memory.similarity import terms
from smartmem.memory.topics import topics
from smartmem.memory.user_settings import UserSettings
from smartmem.settings import RecallSettings
from smartmem.text import fold_space

TOPIC_RELEVANCE = 0.8  # a memory in the slot that is asked about is about it, in whatever words or language

Row = Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class Judged:
    """One candidate with its score, and the reason code if it is left out."""

    row: Row
    score: float
    parts: Mapping[str, float]
    standing: bool
    tokens: int = 0  # counted for what passes the gates
    reason: str | None = None


def newest(conn: Connection, scope: Scope) -> dt.datetime | None:
    """When the newest memory of this user begins; recency counts from there."""
    value: dt.datetime | None = conn.execute(
        select(func.max(memory_items.c.valid_from)).where(scope.condition())
    ).scalar()
    return value


def judge(
    rows: Sequence[Row],
    *,
    query: str,
    vectors: Mapping[str, float],
    standing: Collection[str],
    allowed: UserSettings,
    now: dt.datetime,
    newest: dt.datetime | None,
    settings: RecallSettings,
    min_score: float | None,
    k: int | None,
    words: bool,
) -> list[Judged]:
    """Score all candidates, then gate and budget them; ordered by (-score, id)."""
    lexical = _lexical(query, rows) if words else {}
    asked = topics(query) if words else frozenset()
    reference = min(now, newest) if newest is not None else now
    judged = []
    for row in rows:
        relevance = max(
            min(1.0, max(0.0, vectors.get(row["id"], 0.0))),
            lexical.get(row["id"], 0.0),
            TOPIC_RELEVANCE if row["slot"] and _family(row["slot"], asked) else 0.0,
        )
        parts = {
            "relevance": relevance,
            "confidence": row["confidence"],
            "recency": recency(row["valid_from"], reference, settings.recency_half_life_days),
            "explicit": 1.0 if row["is_explicit"] else 0.0,
        }
        judged.append(
            Judged(
                row=row,
                score=score(parts, settings),
                parts=parts,
                standing=row["id"] in standing,
            )
        )
    judged.sort(key=lambda j: (-j.score, j.row["id"]))
    _gate(judged, allowed, now, settings, settings.min_score if min_score is None else min_score)
    _budget(judged, settings, k)
    return judged


def score(parts: Mapping[str, float], settings: RecallSettings) -> float:
    """The weighted sum of the four parts."""
    w = settings.weights
    return (
        w.relevance * parts["relevance"]
        + w.confidence * parts["confidence"]
        + w.recency * parts["recency"]
        + w.explicit * parts["explicit"]
    )


def recency(valid_from: dt.datetime, reference: dt.datetime, half_life_days: float) -> float:
    """0.5 ^ (age / half-life), 1 for what is as new as the reference or newer."""
    days = max(0.0, (reference - valid_from).total_seconds() / 86400)
    return math.pow(0.5, days / half_life_days)


def _lexical(query: str, rows: Sequence[Row]) -> dict[str, float]:
    """The share of the query's words that a memory has, each word weighted by its rarity among the candidates."""
    wanted = terms(query)
    if not wanted:
        return {}
    have = {row["id"]: terms(row["content"]) & wanted for row in rows}
    frequency = Counter(term for found in have.values() for term in found)
    weight = {term: math.log(1 + (len(rows) + 1) / (1 + frequency[term])) for term in wanted}
    whole = sum(weight.values())
    return {item: sum(weight[term] for term in found) / whole for item, found in have.items() if found}


def _gate(
    judged: Sequence[Judged], allowed: UserSettings, now: dt.datetime, settings: RecallSettings, min_score: float
) -> None:
    by_topic: Counter[str] = Counter()
    hashes: set[str] = set()
    texts: set[str] = set()
    for item in judged:
        row = item.row
        text = fold_space(row["content"]).casefold()
        blocked = allowed.blocks(is_explicit=row["is_explicit"], sensitivity_level=row["sensitivity_level"])
        if row["ttl_at"] is not None and row["ttl_at"] <= now:
            item.reason = "EXPIRED"
        elif blocked:
            item.reason = blocked
        elif item.score < min_score and not item.standing:
            item.reason = "LOW_SCORE"
        elif row["content_hash"] in hashes or text in texts:
            item.reason = "DUPLICATE"
        elif row["slot"] and by_topic[row["slot"]] >= settings.max_per_topic:
            item.reason = "DUP_TOPIC"
        else:
            hashes.add(row["content_hash"])
            texts.add(text)
            if row["slot"]:
                by_topic[row["slot"]] += 1


def _budget(judged: Sequence[Judged], settings: RecallSettings, k: int | None) -> None:
    """Fill by type, constraints first; within a type by score. Then keep the best k."""
    left = dict(settings.budget_items)
    tokens = settings.budget_tokens
    for item in sorted(judged, key=lambda j: TYPE_ORDER[j.row["memory_type"]]):  # stable: score order within a type
        if item.reason is not None:
            continue
        kind = item.row["memory_type"]
        item.tokens = count_tokens(item.row["content"]) + 1  # its bullet
        if left.get(kind, 0) < 1 or item.tokens > tokens:
            item.reason = "OVER_BUDGET"
            continue
        left[kind] -= 1
        tokens -= item.tokens
    if k is not None:
        for item in [j for j in judged if j.reason is None][k:]:
            item.reason = "OVER_BUDGET"


def _family(slot: str, asked: Collection[str]) -> bool:
    """Whether `slot` or the family before its colon is asked about."""
    return slot in asked or slot.partition(":")[0] in asked
