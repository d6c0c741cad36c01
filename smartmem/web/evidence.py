"""What becomes of search results and hits: merged results, evidence, one piece for each text."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from smartmem.rag.types import Hit
from smartmem.text import normalise
from smartmem.web.types import Evidence, RagAnswer, SearchAnswer, SearchResult
from smartmem.web.urls import canonical, domain

# Reciprocal rank fusion of the sub-queries' results (Cormack, Clarke, Büttcher, SIGIR 2009).
_RRF = 60
# Texts are near-copies when this share of the shorter one's 8-character shingles stands in the other.
_COPY, _SHINGLE = 0.8, 8


def merge(searches: Sequence[SearchAnswer]) -> list[SearchResult]:
    """The results of all sub-queries, each page once, by reciprocal rank fusion; ranks are given anew from 1."""
    scores: dict[str, float] = {}
    first: dict[str, SearchResult] = {}
    for search in searches:
        for result in search.results:
            key = canonical(result.url)
            scores[key] = scores.get(key, 0.0) + 1.0 / (_RRF + result.rank)
            first.setdefault(key, result)
    order = sorted(scores, key=lambda key: (-scores[key], key))
    return [replace(first[key], rank=rank) for rank, key in enumerate(order, 1)]


def stage_one(base: RagAnswer, results: Sequence[SearchResult], k: int, reason: str) -> RagAnswer:
    """Snippets as evidence, in the order of the search."""
    evidence = tuple(
        Evidence(
            text=r.snippet,
            url=r.url,
            score=1.0 / r.rank,
            title=r.title,
            domain=domain(r.url),
            start=0,
            end=len(r.snippet),
            source_rank=r.rank,
            published_at=r.published_at,
        )
        for r in results
        if r.snippet
    )[:k]
    return replace(base, stage=1, fallback_reason=reason, answer_evidence=evidence)


def without_copies(hits: Sequence[Hit], trust: Callable[[str], float]) -> list[Hit]:
    """One hit for each text: of near-copies (a reprint, a quotation) the credible one stays, then the earliest, in
    the place that the best of them has."""
    kept: list[Hit] = []
    shingles: list[set[str]] = []
    for hit in hits:
        own = _shingles(hit.chunk.text)
        for i, other in enumerate(shingles):
            if len(own & other) >= _COPY * min(len(own), len(other)):
                if _source(hit, trust) < _source(kept[i], trust):
                    kept[i], shingles[i] = hit.with_score(kept[i].score), own
                break
        else:
            kept.append(hit)
            shingles.append(own)
    return kept


def _shingles(text: str) -> set[str]:
    flat = normalise(text)
    return {flat[i : i + _SHINGLE] for i in range(max(1, len(flat) - _SHINGLE + 1))}


def _source(hit: Hit, trust: Callable[[str], float]) -> tuple[float, float]:
    return -trust(str(hit.chunk.metadata["domain"])), age_key(date_of(hit.chunk.metadata))


def as_evidence(hit: Hit, ranks: Mapping[str, int]) -> Evidence:
    chunk, data = hit.chunk, hit.chunk.metadata
    url = str(data["url"])
    return Evidence(
        text=chunk.text,
        url=url,
        score=hit.score,
        title=str(data["title"]),
        domain=str(data["domain"]),
        start=chunk.start,
        end=chunk.end,
        source_rank=ranks.get(url, int(data["source_rank"])),
        language=str(data["language"]),
        published_at=date_of(data),
        fetched_at=dt.datetime.fromisoformat(str(data["fetched_at"])),
        reasons=dict(hit.reasons),
    )


def date_of(metadata: Mapping[str, Any]) -> dt.datetime | None:
    value = metadata.get("published_at")
    return dt.datetime.fromisoformat(str(value)) if value else None


def age_key(published_at: dt.datetime | None) -> float:
    return published_at.timestamp() if published_at else float("inf")
