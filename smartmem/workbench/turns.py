"""Search of one user's chat turns, with the vectors of turns kept in a cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from smartmem.chat import history
from smartmem.db.engine import Database
from smartmem.errors import MissingExtra, MissingModel, ScopeError
from smartmem.rag.embed import CachedEmbedder
from smartmem.rag.models import cache_dir
from smartmem.rag.pipeline import Pipeline
from smartmem.rag.presets import preset
from smartmem.rag.types import Document, Retrieval
from smartmem.types import is_user


class TurnSearch:
    """Indexes a user's messages and searches them. Close it: it keeps its embedders open."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._embedders: dict[str, CachedEmbedder] = {}

    def search(self, user_id: int, query: str, k: int, spec: Mapping[str, Any], *, trace: bool) -> Retrieval:
        """The best `k` turns by a pipeline specification; with `trace`, what each stage did.

        Where a package or model of the pipeline is missing, it goes on without the reranker, then without late
        interaction, else by words alone, and `fallback_reason` says so; who asks for a trace wants to see this pipeline
        and gets `MissingExtra` or `MissingModel`. Raises `ScopeError` without a user.
        """
        if not is_user(user_id):
            raise ScopeError(
                f"searching turns needs a user: user_id = {user_id}; turns are never searched across users"
            )
        turns = history.messages(self._db, user_id=user_id)
        wanted = dict(spec)
        base = preset(str(wanted.pop("preset"))) if "preset" in wanted else {}
        full = {**base, **wanted, "k": k}
        pipeline, reason = (self._pipeline(full), None) if trace else self._usable(full)
        try:
            pipeline.ingest(_document(turn) for turn in turns if turn.content.strip())
            found = pipeline.retrieve(query, trace=trace)
        finally:
            pipeline.close()
        return replace(found, fallback_reason=reason) if reason else found

    def close(self) -> None:
        """Close the embedders' caches."""
        while self._embedders:
            self._embedders.popitem()[1].close()

    def _usable(self, spec: Mapping[str, Any]) -> tuple[Pipeline, str | None]:
        """The pipeline, or the most of it that can be made here and the reason."""
        lesser = {part: value for part, value in spec.items() if part != "reranker"}
        least = {**lesser, "retriever": _without_late(lesser["retriever"])} if "retriever" in lesser else lesser
        reason = None
        for attempt, what in (
            (spec, "not reranked"),
            (lesser, "searched without late interaction"),
            (least, "searched by words only"),
        ):
            try:
                return self._pipeline(attempt), reason
            except (MissingExtra, MissingModel) as missing:
                reason = f"turns were {what}: {missing}"
        return Pipeline.from_spec({"chunker": "turn", "retriever": "bm25", "k": spec["k"]}), reason

    def _pipeline(self, spec: Mapping[str, Any]) -> Pipeline:
        cached = {"embedder": self._cached(spec["embedder"])} if "embedder" in spec else {}
        return Pipeline.from_spec(spec, token_cache=str(cache_dir() / "tokens.db"), **cached)

    def _cached(self, spec: Any) -> CachedEmbedder:
        """An embedder behind the cache of vectors that all databases of this user of the machine share."""
        key = repr(spec)
        if key not in self._embedders:
            self._embedders[key] = CachedEmbedder(spec, str(cache_dir() / "vectors.db"))
        return self._embedders[key]


def _without_late(retriever: Any) -> Any:
    """A retriever's specification with every late interaction in it replaced by what it scores."""
    if not isinstance(retriever, Mapping) or "base" not in retriever:
        return retriever
    base = _without_late(retriever["base"])
    return base if retriever["name"] == "late-interaction" else {**retriever, "base": base}


def _document(turn: history.Message) -> Document:
    return Document(
        id=turn.id,
        text=turn.content,
        metadata={
            "user_id": turn.user_id,
            "conversation_id": turn.conversation_id,
            "session_id": turn.conversation_id,
            "turn": turn.seq,
            "speaker": turn.speaker or turn.role,
            "date": turn.occurred_at.strftime("%d %B %Y"),
            "occurred_at": turn.occurred_at.isoformat(),
        },
    )
