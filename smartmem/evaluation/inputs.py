"""What a run reads: datasets, the queries that it takes from them, and the machine that it runs on."""

from __future__ import annotations

import functools
import os
import platform
import random

from smartmem.errors import Unmeasurable
from smartmem.evaluation.datasets import Dataset, EvalQuery, load_dataset
from smartmem.evaluation.documents import Corpus, build_corpus
from smartmem.evaluation.suite import DatasetSpec, Suite
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


def chosen_queries(suite: Suite, spec: DatasetSpec, dataset: Dataset) -> list[EvalQuery]:
    """The queries of a run in the dataset's order: a split by conversation, then a seeded sample."""
    kept = [q for q in dataset.queries if not spec.conversations or q.conversation_id in spec.conversations]
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
