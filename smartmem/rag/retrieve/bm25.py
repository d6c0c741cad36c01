"""BM25 with an inverted index that grows, shrinks and filters.

Libraries for BM25 compute a fixed matrix from a whole corpus; a chat memory changes with every message, and each
question sees one user's part. So the postings are kept here and scored when asked, in NumPy (Lucene's variant:
Kamphuis et al., "Which BM25 Do You Mean?", ECIR 2020). A test checks the scores against bm25s.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from smartmem.errors import ConfigError
from smartmem.rag.dialogue import Sequences
from smartmem.rag.registry import register
from smartmem.rag.retrieve.analyse import Analyser, Cjk
from smartmem.rag.rows import Rows
from smartmem.rag.store.locks import SharedLock
from smartmem.rag.trace import stage
from smartmem.rag.types import Chunk, Hit, Query, ranked


class _Postings:
    """Where a term occurs: document numbers and counts, append-only."""

    __slots__ = ("counts", "docs", "live")

    def __init__(self) -> None:
        self.docs, self.counts, self.live = array("i"), array("i"), 0

    def arrays(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return np.array(self.docs, dtype=np.int32), np.array(self.counts, dtype=np.int32)


@register("retriever", "bm25")
class Bm25Retriever:
    """Lexical search over `chunk.searchable`. Hits share at least one term with the query.

    `idf`: `corpus` weighs terms by all chunks; `scope` by those that pass the filter only, so that nothing of other
    users (not even how often they use a word) touches the order. `cjk`: see `Analyser`. `stemming`: a language of
    Snowball, or `none`. `window`: how many turns on either side are indexed with each chunk. k1 and b are those that
    suit short passages (MS MARCO's, in Anserini).
    """

    def __init__(
        self,
        k1: float = 0.9,
        b: float = 0.4,
        stemming: str = "english",
        stopwords: bool = True,
        cjk: Cjk = "uni+bigram",
        idf: Literal["corpus", "scope"] = "corpus",
        window: int = 0,
    ) -> None:
        if k1 < 0 or not 0 <= b <= 1 or idf not in ("corpus", "scope"):
            raise ConfigError(f"bm25: k1 = {k1}, b = {b}, idf = {idf!r}; needs k1 >= 0, 0 <= b <= 1, corpus or scope")
        self._k1, self._b, self._scoped = k1, b, idf == "scope"
        self._analyse = Analyser(cjk=cjk, stemming=stemming, stopwords=stopwords)
        self._window = window
        self._sequences = Sequences()
        self._lock = SharedLock()
        self._clear()

    def index(self, chunks: Sequence[Chunk]) -> None:
        if self._window:
            self._sequences.add(chunks)
            chunks = [*chunks, *self._sequences.touched(chunks, self._window, self._window)]
        self._write(chunks)

    def _write(self, chunks: Sequence[Chunk]) -> None:
        counted = [(chunk, Counter(self._analyse(self._text(chunk)))) for chunk in chunks]
        with self._lock.alone():
            for chunk, terms in counted:
                self._remove(chunk.id)
                self._add(chunk, terms)

    def restore(self, chunks: Sequence[Chunk]) -> None:
        self.index(chunks)

    def delete(self, ids: Sequence[str]) -> None:
        with self._lock.alone():
            for id in ids:
                self._remove(id)
            if len(self._lengths) > 1000 and len(self._rows) * 2 < len(self._lengths):
                self._compact()
        if self._window:
            self._write(self._sequences.forget(ids, self._window, self._window))

    def retrieve(self, query: Query, k: int) -> list[Hit]:
        if k < 1:
            return []
        with stage("bm25") as out:
            hits = out.hits = self._search(query, k)
        return hits

    def _text(self, chunk: Chunk) -> str:
        return self._sequences.window(chunk, self._window, self._window) if self._window else chunk.searchable

    def _search(self, query: Query, k: int) -> list[Hit]:
        terms = Counter(self._analyse(query.text))
        with self._lock.shared():
            selected = self._rows.select(query.filter)
            # Through a copy of the numbers: a NumPy view of a growing array would block its growth.
            docs = np.array(self._doc_of, dtype=np.intp)
            if selected is not None:
                docs = docs[selected]
            if not len(docs):
                return []
            scores = self._scores(terms, docs)[docs]
            order = np.arange(len(docs)) if selected is None else selected
            kept = np.flatnonzero(scores > 0)
            if k < len(kept):
                kth = np.partition(scores[kept], len(kept) - k)[len(kept) - k]
                kept = kept[scores[kept] >= kth]  # equal terms give equal sums: ties are exact here
            return ranked([Hit(self._rows.chunks[order[i]], float(scores[i])) for i in kept], k)

    def _scores(self, terms: Counter[str], scope: NDArray[np.intp]) -> NDArray[np.float64]:
        """Scores by document number; numbers outside `scope` may hold anything."""
        lengths = np.array(self._lengths, dtype=np.float64)
        n, total = float(len(self._rows)), float(self._total)
        inside: NDArray[np.bool_] | None = None
        if self._scoped:
            inside = np.zeros(len(lengths), dtype=np.bool_)
            inside[scope] = True
            n, total = float(len(scope)), float(lengths[scope].sum())
        norm = self._k1 * (1 - self._b + self._b * lengths / max(total / n, 1e-9))
        scores = np.zeros(len(lengths))
        for term, times in sorted(terms.items()):
            posting = self._terms.get(term)
            if posting is None:
                continue
            docs, counts = posting.arrays()
            df = float(posting.live) if inside is None else float(inside[docs].sum())
            idf = np.log1p((n - df + 0.5) / (df + 0.5))
            scores[docs] += times * idf * counts / (counts + norm[docs])
        return scores

    def _add(self, chunk: Chunk, terms: Counter[str]) -> None:
        doc = len(self._lengths)
        length = terms.total()
        self._lengths.append(length)
        self._total += length
        row = self._rows.put(chunk)
        self._doc_of.append(doc) if row == len(self._doc_of) else self._doc_of.__setitem__(row, doc)
        self._held[chunk.id] = tuple(map(sys.intern, terms))
        for term, count in terms.items():
            posting = self._terms.get(term)
            if posting is None:
                posting = self._terms[sys.intern(term)] = _Postings()
            posting.docs.append(doc)
            posting.counts.append(count)
            posting.live += 1

    def _remove(self, id: str) -> None:
        row = self._rows.row_of.get(id)
        if row is None:
            return
        for term in self._held.pop(id):
            self._terms[term].live -= 1
        self._total -= self._lengths[self._doc_of[row]]
        moved = self._rows.drop(id)
        last = self._doc_of.pop()
        if moved and moved[0] != moved[1]:
            self._doc_of[moved[0]] = last

    def _compact(self) -> None:
        """Write the postings anew without the removed documents."""
        chunks = self._rows.chunks
        self._clear()
        for chunk in chunks:
            self._add(chunk, Counter(self._analyse(self._text(chunk))))

    def _clear(self) -> None:
        self._rows = Rows()
        self._terms: dict[str, _Postings] = {}
        self._held: dict[str, tuple[str, ...]] = {}  # a window's text may have changed by the time it is removed
        self._lengths, self._total = array("i"), 0
        self._doc_of = array("q")
