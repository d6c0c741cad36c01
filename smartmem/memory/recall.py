"""Recall: candidates → SQL truth → score → gates → budgets, with a reason for everything that is left out.

    legacy  SQL alone: standing memories, and those that share words or topics with the query
    rag     by meaning alone, from the vector store
    hybrid  constraints and strong preferences from SQL first, then by meaning, words and topics

Whatever a store answers, an item is used only if its row is active (or was valid at `as_of`) when it is read here:
what was deleted a moment ago is not recalled, also when the vector store still holds it.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import update

from smartmem.db.engine import Database
from smartmem.db.tables import memory_items
from smartmem.errors import ModelError, ScopeError, StoreError
from smartmem.frames import Table, Tabular
from smartmem.memory import ranking
from smartmem.memory.calibrate import relevance, scale
from smartmem.memory.facts import NAMESPACE
from smartmem.memory.inject import Injection, Style, render
from smartmem.memory.reading import Scope, Source, find_lexical, find_standing, read_rows, read_sources
from smartmem.memory.sync import other_embedder
from smartmem.memory.user_settings import DEFAULTS, load_user_settings
from smartmem.rag.protocols import Embedder, VectorStore
from smartmem.rag.types import Filter
from smartmem.settings import RecallSettings
from smartmem.telemetry import DEDUP_DROPS, INJECTED, RECALL_FALLBACKS, RECALL_MS, RECALLS, log, metrics
from smartmem.text import cut, language
from smartmem.types import is_user

Mode = Literal["legacy", "rag", "hybrid"]
QUERY_CHARS = 2000  # of a pasted document no more is asked about; what follows would only dilute it
TOUCH_AFTER = dt.timedelta(hours=1)  # a recall writes at most once an hour that an item was used


@dataclass(frozen=True, slots=True, kw_only=True)
class RecalledItem:
    """A memory that is to be used. `parts` are the terms of the score: relevance, confidence, recency, explicit."""

    id: str
    content: str
    title: str
    memory_type: str
    score: float
    parts: Mapping[str, float]
    slot: str | None
    is_explicit: bool
    sensitivity_level: int
    valid_from: dt.datetime
    valid_to: dt.datetime | None
    ttl_at: dt.datetime | None
    source: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedItem:
    """A memory that was considered and left out; `reason` is a code as `explain` gives it (or DUPLICATE)."""

    id: str
    content: str
    memory_type: str
    score: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled(Tabular):
    """What a recall found, by (-score, id). `fallback_reason` says why SQL ranked instead of the vector store."""

    query: str
    mode: str
    items: tuple[RecalledItem, ...]
    dropped: tuple[DroppedItem, ...] = ()
    fallback_reason: str | None = None
    blocked: str | None = None
    tokens: int = 0
    at: dt.datetime | None = None
    language: str = "en"
    style: Style = "typed"

    def render(self, style: Style | None = None, language: Literal["zh", "en"] | None = None) -> Injection:
        """The prompt text; headings in the query's language unless told otherwise."""
        return render(self.items, style or self.style, language or ("zh" if self.language == "zh" else "en"))

    def _table(self) -> Table:
        """One row a memory that passed; `said` is an excerpt of its source."""
        rows = [
            (i.score, i.memory_type, i.content, i.valid_from)
            + ((i.source.conversation_id, i.source.excerpt) if i.source else (None, None))
            for i in self.items
        ]
        return ("score", "memory_type", "content", "since", "conversation_id", "said"), rows

    def _above(self) -> list[str]:
        return [self.query, *(note for note in (self.blocked, self.fallback_reason) if note)]

    def _below(self) -> list[str]:
        return [f"left out: {item.content} ({item.reason})" for item in self.dropped[:5]]


@dataclass(slots=True)
class Recaller:
    """Recalls memories of one user at a time. Without store and embedder every mode is answered from SQL."""

    db: Database
    store: VectorStore | None = None
    embedder: Embedder | None = None
    settings: RecallSettings = field(default_factory=RecallSettings)
    mode: Mode = "hybrid"

    def recall(
        self,
        user_id: int,
        query: str,
        *,
        mode: Mode | None = None,
        namespace: str = NAMESPACE,
        k: int | None = None,
        at: dt.datetime | None = None,
        as_of: dt.datetime | None = None,
        memory_types: Sequence[str] = (),
        assistant_id: str | None = None,
        conversation_id: str | None = None,
        run_id: str | None = None,
        min_score: float | None = None,
        touch: bool = True,
    ) -> Recalled:
        """Rank, gate and budget the user's memories for `query`.

        `at` is the moment of asking (now). `as_of` asks what was held true at that time instead of now; it is
        answered from SQL, for the vector store knows the present only. `k` keeps the best k of what passes.
        Raises `ScopeError` without a user.
        """
        if not is_user(user_id):
            raise ScopeError(f"recall needs a user: user_id = {user_id}; memories are never searched across users")
        scope = Scope(
            user_id=user_id,
            namespace=namespace,
            memory_types=tuple(memory_types),
            assistant_id=assistant_id,
            conversation_id=conversation_id,
            run_id=run_id,
            as_of=as_of,
        )
        begun = time.perf_counter()
        query = cut(query, QUERY_CHARS)[0]
        used: Mode = mode or self.mode
        now = at or as_of or self.db.now()
        vectors, reason = self._by_meaning(scope, query, used)
        with self.db.read() as conn:
            allowed = load_user_settings(conn, [user_id]).get(user_id, DEFAULTS)
            if not allowed.memory_enabled:
                return Recalled(
                    query=query, mode=used, items=(), blocked="SETTING_BLOCKED", at=now, language=language(query)
                )
            standing: list[str] = []
            candidates = set(vectors)
            if used != "rag" or reason:
                standing = find_standing(conn, scope, self.settings.candidates)
                candidates.update(standing, find_lexical(conn, scope, query, self.settings.candidates))
            rows = read_rows(conn, scope, sorted(candidates))
            newest = ranking.newest(conn, scope)
            judged = ranking.judge(
                list(rows.values()),
                query=query,
                vectors=vectors,
                standing=set(standing),
                allowed=allowed,
                now=now,
                newest=newest,
                settings=self.settings,
                min_score=min_score,
                k=k,
                words=used != "rag" or reason is not None,
            )
            kept = [j for j in judged if j.reason is None]
            sources = read_sources(conn, [j.row for j in kept])
        if touch and as_of is None:
            self._touch([j.row for j in kept])
        _report(judged, len(kept), reason, time.perf_counter() - begun)
        return Recalled(
            query=query,
            mode=used,
            items=tuple(_item(j, sources) for j in kept),
            dropped=tuple(_dropped(j) for j in judged if j.reason is not None),
            fallback_reason=reason,
            tokens=sum(j.tokens for j in kept),
            at=now,
            language=language(query),
            style=self.settings.render,
        )

    def _by_meaning(self, scope: Scope, query: str, mode: Mode) -> tuple[dict[str, float], str | None]:
        """Relevance by memory id, and why there is none if the vector store could not be asked."""
        if mode == "legacy":
            return {}, None
        if scope.as_of is not None:
            return {}, "AS_OF: the vector store knows the present only"
        if self.store is None or self.embedder is None:
            return {}, "NO_VECTOR_STORE: none is configured"
        if not query.strip():
            return {}, "BLANK_QUERY: nothing to embed"
        known, asked = self.embedder.languages, language(query)
        if known and asked not in known:
            # An English model gives all Chinese texts nearly the same vector: a high cosine that says nothing.
            return {}, f"LANGUAGE: the embedder knows {', '.join(known)}, the query is {asked}; ranked by words"
        try:
            vector = self.embedder.embed_queries([query])[0]
            hits = self.store.search(vector, self.settings.candidates, _filter(scope))
            between = scale(self.embedder, asked)
        except (StoreError, ModelError) as error:
            log.warning("recall falls back to SQL: %s", type(error).__name__, extra={"user_id": scope.user_id})
            return {}, f"{type(error).__name__}: {error}"
        if foreign := other_embedder(hits, self.embedder):
            return {}, foreign
        return {hit.chunk.id: relevance(hit.score, between) for hit in hits}, None

    def _touch(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Note the use. Rarely a write, and never a reason to fail a recall."""
        now = self.db.now()
        due = [r["id"] for r in rows if r["last_access_at"] is None or now - r["last_access_at"] > TOUCH_AFTER]
        if not due:
            return
        c = memory_items.c
        try:
            with self.db.begin() as conn:
                conn.execute(update(memory_items).where(c.id.in_(sorted(due))).values(last_access_at=now))
        except StoreError as error:
            log.warning("last_access_at not written: %s", type(error).__name__)


def _filter(scope: Scope) -> Filter:
    where: dict[str, Any] = {"user_id": scope.user_id, "namespace": scope.namespace}
    if scope.memory_types:
        where["memory_type"] = scope.memory_types
    for name in ("assistant_id", "conversation_id", "run_id"):
        value = getattr(scope, name)
        if value is not None:
            where[name] = value
    return Filter.where(**where)


def _item(judged: ranking.Judged, sources: Mapping[str, Source]) -> RecalledItem:
    row = judged.row
    return RecalledItem(
        id=row["id"],
        content=row["content"],
        title=row["title"],
        memory_type=row["memory_type"],
        score=judged.score,
        parts=judged.parts,
        slot=row["slot"],
        is_explicit=row["is_explicit"],
        sensitivity_level=row["sensitivity_level"],
        valid_from=row["valid_from"],
        valid_to=row["valid_to"],
        ttl_at=row["ttl_at"],
        source=sources.get(row["source_message_id"] or ""),
    )


def _dropped(judged: ranking.Judged) -> DroppedItem:
    row = judged.row
    return DroppedItem(
        id=row["id"],
        content=row["content"],
        memory_type=row["memory_type"],
        score=judged.score,
        reason=judged.reason or "",
    )


def _report(judged: Sequence[ranking.Judged], kept: int, fallback: str | None, seconds: float) -> None:
    metrics.count(RECALLS, result="hit" if kept else "miss")
    metrics.count(RECALL_FALLBACKS, fallback is not None)
    metrics.count(INJECTED, kept)
    metrics.count(DEDUP_DROPS, sum(one.reason in ("DUPLICATE", "DUP_TOPIC") for one in judged))
    metrics.observe(RECALL_MS, 1000 * seconds)
