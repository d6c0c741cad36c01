"""Chunkers on the same gold: how much of the evidence comes back within so many characters, and how much else.

frame = measure_chunkers(load_dataset("smartmem-tiny"), {"turn": "turn", "fixed": {"name": "fixed", "size": 400}})
rates(frame, "recall", by="chunker", cluster="conversation_id")

The gold is in characters of the session's transcript, so every chunker is held against the same one (spans.py). A query
may read `budget` characters, not k chunks: k large chunks are more text than k small ones, and win by that alone. Text
that overlapping chunks repeat is paid for each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from smartmem.errors import Unmeasurable, needs
from smartmem.evaluation.datasets import Dataset
from smartmem.evaluation.documents import Corpus, build_corpus
from smartmem.evaluation.spans import Interval, precision_omega, span_scores, token_scores
from smartmem.rag.pipeline import Pipeline
from smartmem.rag.registry import Spec
from smartmem.rag.types import Chunk, Filter

if TYPE_CHECKING:
    import pandas as pd

Gold = dict[str, list[Interval]]
DEPTH = 100  # hits read for a query before the budget is filled


def measure_chunkers(
    dataset: Dataset, chunkers: Mapping[str, Spec], *, budget: int = 600, retriever: Spec = "bm25", **parts: Spec
) -> pd.DataFrame:
    """One row a chunker and query with gold: chunker, query_id, conversation_id, language, category, recall,
    precision, iou, redundancy, the first three in tokens too (token_recall …), precision_omega, characters, chunks (how
    many the chunker made in all), cut (whether a border of this chunker runs through the evidence).

    Gold are the query's spans, or its relevant turns as a whole where it has none. `parts` (embedder=) are handed to
    the pipeline. Each query searches its own conversation only.
    """
    with needs("eval"):
        import pandas
    corpus = build_corpus(dataset, "session")
    known = gold_spans(dataset, corpus)
    texts = {document.id: document.text for document in corpus.documents}
    asked = [(query, known[query.id]) for query in dataset.queries if query.id in known]
    if not asked:
        raise Unmeasurable(f"{dataset.name}: no query has gold spans or relevant turns, so chunkers cannot be compared")
    rows = []
    for name, chunker in chunkers.items():
        pipeline = Pipeline.from_spec({"chunker": chunker, "retriever": retriever, "k": DEPTH, **parts})
        chunks = [chunk for document in corpus.documents for chunk in pipeline.chunker.chunk(document)]
        pipeline.index(chunks)  # cut once: a chunker may have a model inside
        whole = spans_of(chunks)
        for query, gold in asked:
            found = pipeline.retrieve(query.text, filter=Filter.where(conversation_id=query.conversation_id))
            read = _within([hit.chunk for hit in found.hits], budget)
            score, in_tokens = span_scores(gold, read), token_scores(gold, read, texts)
            rows.append(
                {
                    "chunker": name,
                    "query_id": query.id,
                    "conversation_id": query.group,
                    "language": query.language,
                    "category": query.category,
                    "recall": score.recall,
                    "precision": score.precision,
                    "iou": score.iou,
                    "redundancy": score.redundancy,
                    "token_recall": in_tokens.recall,
                    "token_precision": in_tokens.precision,
                    "token_iou": in_tokens.iou,
                    "precision_omega": precision_omega(gold, whole),
                    "characters": sum(end - start for spans in read.values() for start, end in spans),
                    "chunks": sum(map(len, whole.values())),
                    "cut": float(_is_cut(gold, whole)),
                }
            )
        pipeline.close()
    return pandas.DataFrame(rows)


def gold_spans(dataset: Dataset, corpus: Corpus) -> dict[str, Gold]:
    """Query → session document → spans of the evidence in its transcript; queries without gold are left out."""
    texts = {key: turn.text for key, _, turn in dataset.turns()}
    # A transcript's line ends with the words of the turn; the speaker's name stands before them.
    starts = {
        turn: (document, end - len(texts[turn]))
        for document, found in corpus.places.items()
        for _, end, turn, _ in found
    }
    out: dict[str, Gold] = {}
    for query in dataset.queries:
        spans = [(span.turn, span.start, span.end) for span in query.spans]
        gold: Gold = {}
        for turn, start, end in spans or [(turn, *_words(texts[turn])) for turn in query.relevant if turn in starts]:
            document, shift = starts[turn]
            gold.setdefault(document, []).append((shift + start, shift + end))
        if gold:
            out[query.id] = gold
    return out


def _words(text: str) -> Interval:
    """A turn without its outer white space, which no chunk holds."""
    start = len(text) - len(text.lstrip())
    return start, max(start, len(text.rstrip()))


def spans_of(chunks: Iterable[Chunk]) -> Gold:
    """Where chunks lie, by document."""
    out: Gold = {}
    for chunk in chunks:
        out.setdefault(chunk.document_id, []).append((chunk.start, chunk.end))
    return out


def _within(chunks: list[Chunk], budget: int) -> Gold:
    """The first `budget` characters of the chunks in their order; the last one is read in part."""
    out: Gold = {}
    left = budget
    for chunk in chunks:
        if left <= 0:
            break
        end = min(chunk.end, chunk.start + left)
        out.setdefault(chunk.document_id, []).append((chunk.start, end))
        left -= end - chunk.start
    return out


def _is_cut(gold: Gold, whole: Gold) -> bool:
    """Whether a piece of the evidence lies in no single chunk."""
    return any(
        not any(a <= start and end <= b for a, b in whole.get(document, ()))
        for document, spans in gold.items()
        for start, end in spans
    )
