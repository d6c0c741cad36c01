"""Pages of one session, searchable until the session has been idle for its time to live.

Each session has a `web` corpus of its own, and every chunk carries its session_id, which that corpus insists on:
nothing of one session is in another's index, and if it were, the filter would not let it through.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from smartmem.clock import Clock
from smartmem.errors import ScopeError
from smartmem.rag.corpus import WebCorpus
from smartmem.rag.pipeline import Pipeline
from smartmem.rag.types import Document, Retrieval
from smartmem.text import sha256
from smartmem.types import Scalar
from smartmem.web.types import Page
from smartmem.web.urls import canonical


@dataclass(slots=True)
class _Session:
    corpus: WebCorpus
    last_used: float
    pages: dict[str, Page] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class SessionIndex:
    """Indexes by session. `make_pipeline` makes an empty pipeline; the sessions idle longest go first past the limit.

    Every method with a `session_id` raises `ScopeError` when it is empty.
    """

    def __init__(self, make_pipeline: Callable[[], Pipeline], *, ttl_s: float, max_sessions: int, clock: Clock) -> None:
        self._make = make_pipeline
        self._ttl_s, self._max, self._clock = ttl_s, max_sessions, clock
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, session_id: str, url: str) -> Page | None:
        """The page that this session has already read under `url`."""
        return self._session(session_id).pages.get(canonical(url))

    def add(self, session_id: str, query_id: str, pages: Sequence[tuple[Page, int]]) -> int:
        """Index pages with their rank in the search results; returns the number of chunks.

        A page with the very text of one that the session holds is left out. Raises `ModelError` and `StoreError` kinds.
        """
        session = self._session(session_id)
        with session.lock:
            texts = {sha256(page.text) for page in session.pages.values()}
            documents = []
            for page, rank in pages:
                digest = sha256(page.text)
                if digest not in texts:
                    texts.add(digest)
                    documents.append(_document(session_id, query_id, page, rank))
            count = session.corpus.add(documents)
            for page, _ in pages:
                session.pages[canonical(page.url)] = page
        return count

    def search(self, session_id: str, text: str, k: int) -> Retrieval:
        """The best `k` chunks of this session. Raises `ModelError` and `StoreError` kinds."""
        session = self._session(session_id)
        with session.lock:
            return session.corpus.search(text, k, session_id=session_id)

    def drop(self, session_id: str) -> None:
        """Forget a session; an unknown one is no error."""
        with self._lock:
            gone = self._sessions.pop(_scope(session_id), None)
        if gone:
            gone.corpus.pipeline.close()

    def sessions(self) -> list[str]:
        """The sessions that are held now, the one idle longest first."""
        with self._lock:
            self._expire()
            return list(self._sessions)

    def _session(self, session_id: str) -> _Session:
        _scope(session_id)
        with self._lock:
            self._expire()
            session = self._sessions.get(session_id)
            if session is None:
                session = self._sessions[session_id] = _Session(WebCorpus(self._make()), 0.0)
            session.last_used = self._clock.now().timestamp()
            self._sessions.move_to_end(session_id)
            while len(self._sessions) > self._max:
                self._sessions.popitem(last=False)[1].corpus.pipeline.close()
            return session

    def _expire(self) -> None:
        oldest = self._clock.now().timestamp() - self._ttl_s
        for session_id in [s for s, held in self._sessions.items() if held.last_used < oldest]:
            self._sessions.pop(session_id).corpus.pipeline.close()


def _scope(session_id: str) -> str:
    if not session_id.strip():
        raise ScopeError("session_id is empty: web evidence is kept and searched within one session; name it")
    return session_id


def _document(session_id: str, query_id: str, page: Page, rank: int) -> Document:
    metadata: dict[str, Scalar] = {
        "session_id": session_id,
        "query_id": query_id,
        "url": page.final_url,
        "title": page.title,
        "domain": page.domain,
        "fetched_at": page.fetched_at.isoformat(),
        "language": page.language,
        "source_rank": rank,
    }
    if page.published_at:
        metadata["published_at"] = page.published_at.isoformat()
    return Document(
        id=sha256(f"{session_id}\n{canonical(page.final_url)}")[:24],
        text=page.text,
        title=page.title,
        metadata=metadata,
        created_at=page.published_at,
    )
