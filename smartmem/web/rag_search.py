"""`web_rag_search`: from a question to spans of web pages that answer it, verbatim and with their source."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from uuid_utils import uuid7

from smartmem.clock import Clock, SystemClock
from smartmem.errors import ModelError, ScopeError, StoreError
from smartmem.rag.pipeline import Pipeline
from smartmem.rag.protocols import Embedder
from smartmem.rag.registry import create
from smartmem.rag.types import Hit
from smartmem.settings import WebRagSettings
from smartmem.text import fold_space
from smartmem.web.aio import in_thread, run
from smartmem.web.credibility import credibility, freshness
from smartmem.web.evidence import age_key, as_evidence, date_of, merge, stage_one, without_copies
from smartmem.web.fetch import WebFetcher
from smartmem.web.index import SessionIndex
from smartmem.web.rewrite import Rewriter, by_rules
from smartmem.web.search import WebSearch
from smartmem.web.stats import Recorder, WebStats
from smartmem.web.types import Evidence, Kind, Observation, Page, RagAnswer, SearchAnswer, SearchResult, observe

log = logging.getLogger(__name__)

_MAX_QUESTION = 1000
# Searching may use this share of the time budget; the rest is for fetching.
_SEARCH_SHARE = 0.5


class WebRagSearch:
    """Answers questions with evidence. Safe to share between threads; keeps an index for each session.

    Without an `embedder` retrieval is lexical (BM25) and the answer's notes say so. The page text that comes back
    is quoted data: nothing in it is ever run, fetched or followed.
    """

    def __init__(
        self,
        search: WebSearch,
        fetcher: WebFetcher | None,
        settings: WebRagSettings | None = None,
        *,
        embedder: Embedder | None = None,
        rewriter: Rewriter = by_rules,
        clock: Clock | None = None,
    ) -> None:
        self._search, self._fetcher = search, fetcher
        self._settings = settings or WebRagSettings()
        self._rewriter = rewriter
        self._clock = clock or SystemClock()
        self._embedder = embedder
        # Made once: a reranker holds a model, and every session may use it.
        self._reranker = create("reranker", self._settings.reranker)
        self._lexical = embedder is None and self._settings.retriever.get("name") != "bm25"
        self.index = SessionIndex(
            self._pipeline, ttl_s=self._settings.ttl_s, max_sessions=self._settings.max_sessions, clock=self._clock
        )
        self._recorder = Recorder()
        self._pipeline().close()  # a wrong name or option is found here, not in front of an agent

    def ask(
        self,
        question: str,
        session_id: str,
        *,
        top_k: int | None = None,
        domain_allow: Sequence[str] = (),
        recency_days: int | None = None,
    ) -> RagAnswer:
        """Evidence for `question`, best first, at most `top_k`. Falls back to snippets (stage 1) and says why.

        Never raises for what the web does; an empty `session_id` is the caller's mistake and raises `ScopeError`.
        """
        if not session_id.strip():
            raise ScopeError("session_id is empty: web evidence is kept and searched within one session; name it")
        started = time.monotonic()
        text = fold_space(question)[:_MAX_QUESTION]
        wanted = top_k if top_k is not None else self._settings.evidence
        base = RagAnswer(question=text, session_id=session_id, query_id=str(uuid7()), sub_queries=())
        if not text or not 1 <= wanted <= 20:
            what = "question is empty" if not text else f"top_k is {wanted}; it goes from 1 to 20"
            answer = replace(base, stage=1, fallback_reason=what, observations=(observe(Kind.INVALID_INPUT, what),))
        else:
            answer = self._answer(base, wanted, tuple(domain_allow), recency_days, started)
        answer = replace(answer, latency_ms=(time.monotonic() - started) * 1000)
        self._recorder.note(answer)
        log.info(
            "web_rag_search stage %d",
            answer.stage,
            extra={
                "session_id": session_id,
                "query_id": answer.query_id,
                "stage": answer.stage,
                "evidence": len(answer.answer_evidence),
                "latency_ms": answer.latency_ms,
            },
        )
        return answer

    def stats(self) -> WebStats:
        """Counts since this object was made."""
        return self._recorder.stats()

    def _answer(
        self, base: RagAnswer, k: int, domain_allow: tuple[str, ...], recency_days: int | None, started: float
    ) -> RagAnswer:
        queries, note = self._rewriter(base.question, self._settings.sub_queries, self._clock.now().year)
        notes = [note] if note else []
        if self._lexical:
            notes.append("no embedder, retrieval is lexical (bm25)")
        searches = self._searches(queries, domain_allow, recency_days)
        merged = merge(searches)
        base = replace(base, sub_queries=tuple(queries), searches=tuple(searches), notes=tuple(notes))
        failed = tuple(s.observation for s in searches if s.observation)
        if not merged:
            reason = "; ".join(dict.fromkeys(o.message for o in failed)) or "no results"
            return replace(base, stage=1, fallback_reason=f"search gave nothing: {reason}", observations=failed)
        if self._fetcher is None:
            return stage_one(replace(base, observations=failed), merged, k, "web_fetch is switched off")
        pages, troubles = self._pages(base.session_id, merged, self._settings.budget_s - (time.monotonic() - started))
        base = replace(base, observations=(*failed, *troubles), pages_fetched=len(pages))
        if not pages:
            return stage_one(base, merged, k, f"none of {min(len(merged), self._settings.pages)} pages could be read")
        try:
            found = self._retrieve(base, pages, k)
        except (ModelError, StoreError) as error:
            return stage_one(base, merged, k, f"retrieval failed: {type(error).__name__}: {error}")
        evidence, trouble = found
        if not evidence:
            return stage_one(base, merged, k, "no span of the pages matches the question")
        return replace(base, answer_evidence=evidence, notes=(*base.notes, trouble) if trouble else base.notes)

    def _searches(
        self, queries: Sequence[str], domain_allow: tuple[str, ...], recency_days: int | None
    ) -> list[SearchAnswer]:
        """All sub-queries side by side; one that takes longer than its share of the budget counts as timed out."""
        limit = self._settings.budget_s * _SEARCH_SHARE

        async def one(query: str) -> SearchAnswer:
            try:
                async with asyncio.timeout(limit):
                    return await in_thread(
                        self._search.search, query, self._settings.results, domain_allow, recency_days
                    )
            except TimeoutError:
                late = observe(Kind.TIMEOUT, f"the search took longer than {limit:g} s")
                return SearchAnswer(query=query, observation=late, latency_ms=limit * 1000)

        async def every() -> list[SearchAnswer]:
            return list(await asyncio.gather(*(one(query) for query in queries)))

        return run(every())

    def _pages(
        self, session_id: str, results: Sequence[SearchResult], left_s: float
    ) -> tuple[list[tuple[Page, int]], list[Observation]]:
        """The pages behind the best results with their rank; those that the session has read are not fetched again."""
        wanted = results[: self._settings.pages]
        held = {r.url: self.index.known(session_id, r.url) for r in wanted}
        fetcher = self._fetcher
        missing = [url for url, page in held.items() if page is None]
        fetched = fetcher.fetch_many(missing, budget_s=max(left_s, 0)) if fetcher and missing else []
        troubles = [a.observation for a in fetched if a.observation]
        for answer in fetched:
            held[answer.url] = answer.page
        return [(page, r.rank) for r in wanted if (page := held[r.url]) is not None], troubles

    def _retrieve(self, base: RagAnswer, pages: Sequence[tuple[Page, int]], k: int) -> tuple[tuple[Evidence, ...], str]:
        # Of copies the index keeps the first: the credible one, then the earliest.
        order = sorted(pages, key=lambda pair: (-self._trust(pair[0].domain), age_key(pair[0].published_at), pair[1]))
        self.index.add(base.session_id, base.query_id, order)
        found = self.index.search(base.session_id, base.question, self._settings.candidates)
        ranks = {page.final_url: rank for page, rank in pages}
        weighed = self._weighed(found.hits)
        return tuple(
            as_evidence(hit, ranks) for hit in without_copies(weighed, self._trust)[:k]
        ), found.fallback_reason or ""

    def _weighed(self, hits: Sequence[Hit]) -> list[Hit]:
        """Relevance scaled to 0…1 over the candidates, plus the light weights; by (-score, id)."""
        if not hits:
            return []
        scores = [hit.score for hit in hits]
        low, span = min(scores), max(scores) - min(scores)
        now = self._clock.now()
        weighed = []
        for hit in hits:
            relevance = (hit.score - low) / span if span else 1.0
            trust = self._trust(str(hit.chunk.metadata["domain"]))
            fresh = freshness(date_of(hit.chunk.metadata), now)
            bonus = self._settings.credibility_weight * trust + self._settings.freshness_weight * fresh
            weighed.append(hit.with_score(relevance + bonus, relevance=relevance, credibility=trust, freshness=fresh))
        return sorted(weighed, key=lambda h: (-h.score, h.chunk.id))

    def _trust(self, host: str) -> float:
        return credibility(host, self._settings.credibility)

    def _pipeline(self) -> Pipeline:
        """An empty pipeline for one session; the embedder and the reranker are shared, the rest is its own."""
        store = create("store", "memory", dim=self._embedder.dim) if self._embedder else None
        live = {"embedder": self._embedder, "store": store} if self._embedder else {}
        return Pipeline(
            chunker=create("chunker", self._settings.chunker, **live),
            retriever=create("retriever", "bm25" if self._lexical else self._settings.retriever, **live),
            reranker=self._reranker,
            embedder=self._embedder,
            store=store,
            candidates=self._settings.candidates,
        )
