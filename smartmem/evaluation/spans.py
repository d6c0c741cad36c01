"""Span metrics: how much of the gold text a set of chunks brings back, and how much else comes with it.

Spans are half-open [start, end) in code points of one document. Overlapping chunks count each character once; what the
overlap costs stands beside it as `redundancy`. Definitions after Smith & Troynikov, "Evaluating Chunking Strategies for
Retrieval" (2024): precision_Ω is the precision that a perfect retriever would reach with these chunks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from smartmem.errors import Unmeasurable

Interval = tuple[int, int]
Spans = Mapping[str, Sequence[Interval]]
# A token for the token metrics: a run of letters and digits, or one CJK character, or one other visible character.
_TOKEN = re.compile(r"[㐀-鿿豈-﫿぀-ヿ가-힯]|[^\W㐀-鿿豈-﫿぀-ヿ가-힯]+|[^\w\s]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanScores:
    """Of one query. `redundancy` is retrieved length over its union, 1 where no chunks overlap."""

    recall: float
    precision: float
    iou: float
    redundancy: float


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """The union as disjoint intervals in order; empty ones vanish. Touching intervals become one.

    >>> merged([(5, 9), (0, 5), (7, 12), (3, 3)])
    [(0, 12)]
    """
    out: list[Interval] = []
    for start, end in sorted(i for i in intervals if i[0] < i[1]):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out


def length(intervals: Iterable[Interval]) -> int:
    """Characters in a union."""
    return sum(end - start for start, end in merged(intervals))


def intersection(a: Iterable[Interval], b: Iterable[Interval]) -> list[Interval]:
    """What two unions have in common."""
    left, right = merged(a), merged(b)
    out, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        start, end = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if start < end:
            out.append((start, end))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return out


def tokens(text: str) -> list[Interval]:
    """The spans of a text's tokens."""
    return [match.span() for match in _TOKEN.finditer(text)]


def span_scores(gold: Spans, retrieved: Spans) -> SpanScores:
    """Character recall, precision and IoU over all documents together; both map document ids to spans."""
    want = sum(length(spans) for spans in gold.values())
    if not want:
        raise Unmeasurable("span metrics of a query without gold spans; such a query is ineligible")
    got = sum(length(spans) for spans in retrieved.values())
    raw = sum(end - start for spans in retrieved.values() for start, end in spans)
    both = sum(length(intersection(spans, retrieved.get(document, ()))) for document, spans in gold.items())
    return SpanScores(
        recall=both / want,
        precision=both / got if got else 0.0,
        iou=both / (want + got - both),
        redundancy=raw / got if got else 1.0,
    )


def token_scores(gold: Spans, retrieved: Spans, texts: Mapping[str, str]) -> SpanScores:
    """The same counted in tokens: a token belongs to a span that it shares a character with."""
    return span_scores(_in_tokens(gold, texts), _in_tokens(retrieved, texts))


def _in_tokens(spans: Spans, texts: Mapping[str, str]) -> dict[str, list[Interval]]:
    out: dict[str, list[Interval]] = {}
    for document, intervals in spans.items():
        found = tokens(texts[document])
        out[document] = [
            (min(inside), max(inside) + 1)
            for start, end in intervals
            if (inside := [i for i, (a, b) in enumerate(found) if a < end and start < b])
        ]
    return out


def precision_omega(gold: Spans, chunks: Spans) -> float:
    """Precision if exactly the chunks that touch the gold were retrieved: what the cutting alone costs."""
    touching = {
        document: [(a, b) for a, b in chunks.get(document, ()) if any(a < end and start < b for start, end in spans)]
        for document, spans in gold.items()
    }
    return span_scores(gold, touching).precision
