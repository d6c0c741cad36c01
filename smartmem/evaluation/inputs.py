"""What a run reads: datasets, the queries that it takes from them, and the machine that it runs on."""

from __future__ import annotations

import functools
import json
import os
import platform
import random
import resource
import sys

from smartmem.errors import Unmeasurable
from smartmem.evaluation.cache import key_of
from smartmem.evaluation.datasets import Dataset, EvalQuery, load_dataset
from smartmem.evaluation.documents import Corpus, build_corpus
from smartmem.evaluation.suite import DatasetSpec, Suite
from smartmem.rag.protocols import Embedder
from smartmem.rag.registry import create
from smartmem.rag.types import Chunk
from smartmem.telemetry import log


@functools.lru_cache(maxsize=4)
def dataset_of(spec_json: str) -> tuple[Dataset, Corpus]:
    """The dataset of a specification with its documents; a process reads each once."""
    spec = DatasetSpec.model_validate_json(spec_json)
    whole = load_dataset(spec.name, spec.path, limit=spec.limit)
    corpus = build_corpus(whole, spec.documents)
    known = {talk.id for talk in whole.conversations}
    for name in spec.conversations:
        if name not in known:
            raise Unmeasurable(
                f"dataset {spec.name!r} has no conversation {name!r}; it has: {', '.join(sorted(known))}"
            )
    homes = whole.session_of()
    for query in whole.queries:
        for turn in query.relevant:
            if turn not in homes:
                raise Unmeasurable(
                    f"{spec.name}: query {query.id} names {turn}, which no document has; check the loader"
                )
    return whole, corpus


@functools.lru_cache(maxsize=4)
def chunks_of(dataset_json: str, chunker_json: str) -> tuple[list[Chunk], str]:
    """The chunks of a dataset and a key over their content; arms that cut alike share them."""
    _, corpus = dataset_of(dataset_json)
    chunker = create("chunker", json.loads(chunker_json))
    chunks = [chunk for document in corpus.documents for chunk in chunker.chunk(document)]
    return chunks, key_of([(c.id, c.searchable, dict(c.metadata)) for c in chunks]).hex()


@functools.lru_cache(maxsize=2)
def embedder_of(spec_json: str) -> Embedder:
    """One embedder a specification and process: loading a model once for all arms that use it."""
    made: Embedder = create("embedder", json.loads(spec_json))
    return made


def chosen_queries(suite: Suite, spec: DatasetSpec, dataset: Dataset) -> list[EvalQuery]:
    """The queries of a run in the dataset's order: a split by conversation or a half, then a seeded sample."""
    kept = [q for q in dataset.queries if not spec.conversations or q.conversation_id in spec.conversations]
    if spec.half:
        clusters = sorted({query.cluster for query in kept})
        random.Random(suite.seed).shuffle(clusters)  # noqa: S311 - a split, no secret
        first = set(clusters[: len(clusters) // 2])
        kept = [query for query in kept if (query.cluster in first) == (spec.half == "choosing")]
    if suite.limit_queries is not None and suite.limit_queries < len(kept):
        picked = set(random.Random(suite.seed).sample(range(len(kept)), suite.limit_queries))  # noqa: S311 - a sample, no secret
        kept = [query for index, query in enumerate(kept) if index in picked]
    return kept


def machine() -> str:
    """The processor and how many of it: latencies of another machine are other latencies."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            model = next((line.split(":", 1)[1].strip() for line in handle if line.startswith("model name")), model)
    except OSError:
        log.debug("no /proc/cpuinfo on this system; the processor is called %s", model)
    return f"{model} x{os.cpu_count()}"


def peak_memory_mb() -> float:
    """Highest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024
