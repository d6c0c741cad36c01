"""Search of one user's chat turns, with the vectors of turns kept in a cache."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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

KEPT = 4  # indexes, the latest used ones


@dataclass(slots=True)
class _Index:
    """A pipeline and the messages that are in it."""

    pipeline: Pipeline
    reason: str | None
    known: set[str] = field(default_factory=set)


class TurnSearch:
    """Indexes a user's messages and searches them; one search at a time. Close it: it keeps indexes and embedders.

    An index is kept for the next question of the same user, which then only adds what was said meanwhile.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._embedders: dict[str, CachedEmbedder] = {}
        self._indexes: dict[str, _Index] = {}
        self._lock = threading.Lock()

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
        turns = [turn for turn in history.messages(self._db, user_id=user_id) if turn.content.strip()]
        wanted = dict(spec)
        base = preset(str(wanted.pop("preset"))) if "preset" in wanted else {}
        with self._lock:
            return self._search(f"{user_id} {base | wanted!r}", turns, query, k, base | wanted, trace)

    def close(self) -> None:
        """Drop the indexes and close the embedders' caches."""
        while self._indexes:
            self._indexes.popitem()[1].pipeline.close()
        while self._embedders:
            self._embedders.popitem()[1].close()

    def _search(
        self, key: str, turns: Sequence[history.Message], query: str, k: int, spec: Mapping[str, Any], trace: bool
    ) -> Retrieval:
        index = self._indexes.pop(key, None)
        if index is not None and not index.known <= {turn.id for turn in turns}:  # messages went away
            index.pipeline.close()
            index = None
        if index is None:
            index = _Index(self._pipeline(spec), None) if trace else _Index(*self._usable(spec))
        # A store of its own may be held by one process only, and what is missing may be here by the next question.
        keep = index.reason is None and "store" not in spec
        try:
            index.pipeline.ingest(_document(turn) for turn in turns if turn.id not in index.known)
            index.known |= {turn.id for turn in turns}
            found = index.pipeline.retrieve(query, k, trace=trace)
        except BaseException:
            keep = False
            raise
        finally:
            if keep:
                self._indexes[key] = index
            else:
                index.pipeline.close()
        while len(self._indexes) > KEPT:
            self._indexes.pop(next(iter(self._indexes))).pipeline.close()
        return replace(found, fallback_reason=index.reason) if index.reason else found

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
        return Pipeline.from_spec({"chunker": "turn", "retriever": "bm25"}), reason

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
