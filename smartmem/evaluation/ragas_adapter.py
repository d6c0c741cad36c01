"""Answer and context metrics of ragas behind one adapter; nothing else imports ragas.

report = score_samples(samples, ["id_context_recall", "string_similarity"])           # no model
report = score_samples(samples, ["faithfulness"], judge=Judge(model="…", base_url="…"), repeats=3)

ragas gives NaN where a judge's answer cannot be read, and its own means leave such rows out. Here a NaN is a failed
sample: it counts 0 and is counted. A sample that lacks what a metric needs is ineligible. A judge may be asked several
times: its spread stands beside the mean, and so does its agreement with human labels where there are any.
"""

from __future__ import annotations

import asyncio
import math
import os
import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from smartmem.errors import ConfigError, MissingExtra, Unmeasurable, needs
from smartmem.evaluation.cell import reason
from smartmem.evaluation.metrics import Outcome
from smartmem.evaluation.samples import AnswerSample
from smartmem.progress import track


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """An OpenAI-compatible endpoint. `embedding_model` is for the metrics that compare meanings."""

    model: str
    base_url: str | None = None
    api_key: str = "not-needed"
    embedding_model: str = ""
    timeout_s: float = 60.0
    max_retries: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One sample in one metric. `values` has one entry for each time that was answered; `value` is their mean."""

    sample: str
    outcome: Outcome
    value: float
    values: tuple[float, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricReport:
    """`mean` is over scored and failed samples (failed ones count 0). `spread` is the mean standard deviation of the
    repeats of one sample; `agreement` the rank correlation with human labels (None: fewer than 3 or all alike),
    `off` the mean distance from them."""

    metric: str
    mean: float | None
    counts: Mapping[str, int]
    spread: float | None
    agreement: float | None
    off: float | None
    rows: tuple[Scored, ...]


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a metric is made and asked: its ragas name, the sample's fields by ragas' names, what it needs."""

    name: str
    fields: Mapping[str, str]
    llm: bool = False
    embeddings: bool = False
    legacy: bool = False
    optional: frozenset[str] = frozenset()


# Not BLEU, ROUGE and chrF: each would bring another package, and they count words of languages with spaces.
_ANSWER = {"reference": "reference", "response": "response"}
_ASKED = {"user_input": "question", **_ANSWER}
_IDS = {"retrieved_context_ids": "context_ids", "reference_context_ids": "reference_ids"}
_TEXTS = {"retrieved_contexts": "contexts", "reference_contexts": "reference_contexts"}
_KINDS: dict[str, _Kind] = {
    "id_context_precision": _Kind("IDBasedContextPrecision", _IDS, legacy=True, optional=frozenset({"context_ids"})),
    "id_context_recall": _Kind("IDBasedContextRecall", _IDS, legacy=True, optional=frozenset({"context_ids"})),
    "context_precision": _Kind("NonLLMContextPrecisionWithReference", _TEXTS, legacy=True),
    "context_recall": _Kind("NonLLMContextRecall", _TEXTS, legacy=True),
    "exact_match": _Kind("ExactMatch", _ANSWER),
    "string_presence": _Kind("StringPresence", _ANSWER),
    "string_similarity": _Kind("NonLLMStringSimilarity", _ANSWER),
    "faithfulness": _Kind(
        "Faithfulness", {"user_input": "question", "response": "response", "retrieved_contexts": "contexts"}, llm=True
    ),
    "answer_correctness": _Kind("AnswerCorrectness", _ASKED, llm=True, embeddings=True),
    "answer_accuracy": _Kind("AnswerAccuracy", _ASKED, llm=True),
    "factual_correctness": _Kind("FactualCorrectness", _ANSWER, llm=True),
    "answer_relevancy": _Kind(
        "AnswerRelevancy", {"user_input": "question", "response": "response"}, llm=True, embeddings=True
    ),
    "llm_context_recall": _Kind(
        "ContextRecall",
        {"user_input": "question", "retrieved_contexts": "contexts", "reference": "reference"},
        llm=True,
    ),
    "semantic_similarity": _Kind("SemanticSimilarity", _ANSWER, embeddings=True),
}
NO_MODEL = tuple(name for name, kind in _KINDS.items() if not kind.llm and not kind.embeddings)
WITH_JUDGE = tuple(name for name, kind in _KINDS.items() if kind.llm or kind.embeddings)


def score_samples(
    samples: Sequence[AnswerSample], metrics: Sequence[str], *, judge: Judge | None = None, repeats: int = 1
) -> dict[str, MetricReport]:
    """Each metric over all samples. `repeats` asks a judge so many times; metrics without one are asked once.

    Raises `ConfigError` for an unknown metric or one that needs a judge when there is none, `MissingExtra` without
    ragas. Works inside a running event loop (a notebook) too.
    """
    for name in metrics:
        if name not in _KINDS:
            raise ConfigError(f"unknown ragas metric {name!r}; known are: {', '.join(_KINDS)}")
        if judge is None and (_KINDS[name].llm or _KINDS[name].embeddings):
            raise ConfigError(f"metric {name!r} asks a model: give judge=Judge(model=…, base_url=…), or --judge NAME")
        if judge is not None and _KINDS[name].embeddings and not judge.embedding_model:
            raise ConfigError(
                f"metric {name!r} compares meanings: give the judge an embedding_model (--embedding-model)"
            )
    if not samples:
        raise Unmeasurable("there is no sample to score")
    _load()
    # A thread of its own, because ragas is asynchronous and a notebook's loop is already running.
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, _score_all(samples, metrics, judge, repeats)).result()


async def _score_all(
    samples: Sequence[AnswerSample], metrics: Sequence[str], judge: Judge | None, repeats: int
) -> dict[str, MetricReport]:
    reports = {}
    client = _client(judge)
    try:
        for name in metrics:
            kind = _KINDS[name]
            ask = _asker(kind, judge, client)
            times = repeats if kind.llm else 1
            rows = [await _score(ask, kind, sample, times) for sample in track(samples, f"ragas {name}", len(samples))]
            reports[name] = _report(name, samples, rows)
    finally:
        if client is not None:
            await client.close()
    return reports


async def _score(
    ask: Callable[[Mapping[str, Any]], Coroutine[Any, Any, float]], kind: _Kind, sample: AnswerSample, times: int
) -> Scored:
    arguments = {theirs: getattr(sample, ours) for theirs, ours in kind.fields.items()}
    missing = [ours for ours in kind.fields.values() if not getattr(sample, ours) and ours not in kind.optional]
    if missing:
        why = f"the sample has no {', '.join(missing)}"
        return Scored(sample=sample.id, outcome=Outcome.INELIGIBLE, value=math.nan, values=(), reason=why)
    if any(not getattr(sample, ours) for ours in kind.optional):
        # Nothing retrieved is an answer, the worst one; ragas makes NaN of it.
        return Scored(sample=sample.id, outcome=Outcome.SCORED, value=0.0, values=(0.0,))
    values, why = [], ""
    for _ in range(times):
        try:
            value = await ask({k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()})
        except ImportError as error:
            raise MissingExtra((error.name or str(error)).partition(" ")[0], "ragas") from None
        except Exception as error:  # noqa: BLE001 - a judge may fail in any way; the sample counts 0 and says why
            why = reason(error)
            continue
        if math.isnan(value):
            why = "ragas gave NaN: the judge's answer could not be read"
        else:
            values.append(value)
    if len(values) < times:
        # Part of the repeats would be a mean over the easy ones: the sample has failed.
        return Scored(sample=sample.id, outcome=Outcome.FAILED, value=0.0, values=tuple(values), reason=why)
    return Scored(sample=sample.id, outcome=Outcome.SCORED, value=float(np.mean(values)), values=tuple(values))


def _report(name: str, samples: Sequence[AnswerSample], rows: Sequence[Scored]) -> MetricReport:
    counted = [row for row in rows if row.outcome in (Outcome.SCORED, Outcome.FAILED)]
    repeated = [row.values for row in rows if len(row.values) > 1]
    human = {sample.id: sample.human for sample in samples if sample.human is not None}
    labelled = [(row.value, human[row.sample]) for row in counted if row.sample in human]
    return MetricReport(
        metric=name,
        mean=float(np.mean([row.value for row in counted])) if counted else None,
        counts={str(state): sum(1 for row in rows if row.outcome is state) for state in Outcome},
        spread=float(np.mean([np.std(values, ddof=1) for values in repeated])) if repeated else None,
        agreement=_rank_correlation(labelled),
        off=float(np.mean([abs(a - b) for a, b in labelled])) if labelled else None,
        rows=tuple(rows),
    )


def _rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    with needs("eval"):
        from scipy.stats import spearmanr

    if len(pairs) < 3 or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    return float(spearmanr([a for a, _ in pairs], [b for _, b in pairs]).statistic)


def _load() -> None:
    """Import ragas with its usage tracking off; what it warns about on import is none of the caller's business."""
    os.environ.setdefault("RAGAS_DO_NOT_TRACK", "true")
    with warnings.catch_warnings(), needs("ragas"):
        warnings.simplefilter("ignore")
        import ragas.metrics
        import ragas.metrics.collections  # noqa: F401 - loaded here so that no warning appears later


def _client(judge: Judge | None) -> Any:
    if judge is None:
        return None
    with needs("ragas"):
        from openai import AsyncOpenAI
    return AsyncOpenAI(
        base_url=judge.base_url, api_key=judge.api_key, timeout=judge.timeout_s, max_retries=judge.max_retries
    )


def _embeddings(judge: Judge) -> Any:
    """Embeddings over a blocking client: some metrics call them from a loop of their own, which an asynchronous client
    would not survive."""
    from openai import OpenAI
    from ragas.embeddings.base import BaseRagasEmbedding

    class Embeddings(BaseRagasEmbedding):
        def embed_text(self, text: str, **_: Any) -> list[float]:
            with OpenAI(
                base_url=judge.base_url, api_key=judge.api_key, timeout=judge.timeout_s, max_retries=judge.max_retries
            ) as client:
                answer = client.embeddings.create(input=text, model=judge.embedding_model, encoding_format="float")
            return list(answer.data[0].embedding)

        async def aembed_text(self, text: str, **_: Any) -> list[float]:
            return await asyncio.to_thread(self.embed_text, text)

    return Embeddings()


def _asker(kind: _Kind, judge: Judge | None, client: Any) -> Callable[[Mapping[str, Any]], Coroutine[Any, Any, float]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ragas.metrics
        import ragas.metrics.collections
        from ragas import SingleTurnSample

        if kind.legacy:
            legacy = getattr(ragas.metrics, kind.name)()

            async def ask_legacy(arguments: Mapping[str, Any]) -> float:
                return float(await legacy.single_turn_ascore(SingleTurnSample(**arguments)))

            return ask_legacy
        options: dict[str, Any] = {}
        if kind.llm and judge is not None:
            from ragas.llms import llm_factory

            options["llm"] = llm_factory(judge.model, client=client)
        if kind.embeddings and judge is not None:
            options["embeddings"] = _embeddings(judge)
        metric = getattr(ragas.metrics.collections, kind.name)(**options)

    async def ask(arguments: Mapping[str, Any]) -> float:
        return float((await metric.ascore(**arguments)).value)

    return ask
