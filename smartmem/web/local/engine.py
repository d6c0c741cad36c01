"""A search engine over the local pages, with snippets as result pages have them."""

from __future__ import annotations

from collections.abc import Sequence

from smartmem.rag.retrieve.analyse import Analyser
from smartmem.rag.retrieve.bm25 import Bm25Retriever
from smartmem.rag.types import Chunk, Query
from smartmem.web.local.pages import LocalPage


class Engine:
    """What the three services share: BM25 over whole pages, and a snippet around the words of the query."""

    def __init__(self, pages: dict[str, LocalPage]) -> None:
        self._pages = pages
        self._index = Bm25Retriever()
        self._analyse = Analyser()
        self._cut: dict[tuple[str, int], tuple[str, int, dict[int, set[str]]]] = {}
        texts = {id: f"{p.title}\n" + "\n".join(p.paragraphs) for id, p in pages.items()}
        self._index.index([Chunk(id=i, document_id=i, start=0, end=len(t), text=t, order=0) for i, t in texts.items()])

    def search(
        self, query: str, k: int, *, sites: Sequence[str] = (), since: str = "", width: int = 160
    ) -> list[tuple[LocalPage, str, float]]:
        """Pages with snippet and score. `width` counts CJK characters twice, as result pages do."""
        found = []
        for hit in self._index.retrieve(Query(text=query), len(self._pages)):
            page = self._pages[hit.chunk.id]
            if sites and not any(page.host == s or page.host.endswith(f".{s}") for s in sites):
                continue
            if since and page.date < since:
                continue
            found.append((page, self._snippet(page, query, width), hit.score))
        return found[:k]

    def _snippet(self, page: LocalPage, query: str, width: int) -> str:
        text, size, windows = self._windows(page.id, width)
        terms = set(self._analyse(query))
        best = max(windows, key=lambda start: (len(terms & windows[start]), -start))
        cut = text[best : best + size]
        return ("… " if best else "") + cut + (" …" if best + size < len(text) else "")

    def _windows(self, id: str, width: int) -> tuple[str, int, dict[int, set[str]]]:
        """The page's text, the characters in a snippet, and the terms of every snippet that could be cut, by start."""
        if (id, width) not in self._cut:
            text = " ".join(self._pages[id].paragraphs)
            wide = sum(1 for c in text[:200] if ord(c) > 0x2E80) > 60
            size = width // 2 if wide else width
            starts = range(0, max(1, len(text) - size // 2), max(1, size // 8))
            self._cut[id, width] = text, size, {s: set(self._analyse(text[s : s + size])) for s in starts}
        return self._cut[id, width]
