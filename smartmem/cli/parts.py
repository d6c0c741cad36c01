"""eval chunkers, memory, gating, answers, web: single parts of the chain held against their gold."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from smartmem.cli.common import AsJson, print_json, print_table, say

_CHUNKERS = ["fixed", "sentence", "recursive", "token", "turn", "window"]
_SHOWN = ("recall", "precision", "iou", "precision_omega", "cut")
_SPANS = ("recall", "precision", "iou", "token_recall", "token_precision", "token_iou", "precision_omega", "cut")
Part = Annotated[str, typer.Option(help="a name, or a name with options: 'llm model=NAME base_url=URL'")]


def add_to(app: typer.Typer) -> None:
    """Register the commands under `eval`."""
    for command in (chunkers, memory, gating, answers, web):
        app.command()(command)


def spec(text: str) -> dict[str, Any]:
    """`fixed size=200` as `{"name": "fixed", "size": 200}`; a value that is no TOML is text."""
    name, *options = text.split()
    made: dict[str, Any] = {"name": name}
    for option in options:
        key, mark, value = option.partition("=")
        if not mark or not key:
            raise typer.BadParameter(f"{option!r} in {text!r} is no option; write key=value")
        try:
            made[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            made[key] = value
    return made


def chunkers(
    datasets: Annotated[
        list[str] | None, typer.Option("--dataset", help="from `smartmem data list`; may be given several times")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="a file or folder instead of the registry's")] = None,
    names: Annotated[
        list[str] | None, typer.Option("--chunker", help="'fixed size=200 overlap=40'; may be given several times")
    ] = None,
    budget: Annotated[int, typer.Option("--budget", min=1, help="characters that a query may read")] = 600,
    retriever: Annotated[str, typer.Option("--retriever", help="what finds the chunks")] = "bm25",
    embedder: Annotated[str | None, typer.Option("--embedder", help="for retrievers that need one")] = None,
    json: AsJson = False,
) -> None:
    """Chunkers against gold spans: recall, precision, IoU in characters and tokens, and what the cutting alone costs.

    Without --dataset: our dialogues and our document set. Means over queries with 95 % intervals over conversations.

    \b
    Examples:
      smartmem eval chunkers
      smartmem eval chunkers --dataset smartmem-web --chunker "fixed size=200 overlap=0" --chunker sentence --json
    """
    from smartmem.evaluation.asked import rates
    from smartmem.evaluation.chunking import measure_chunkers
    from smartmem.evaluation.datasets import load_dataset

    wanted = {text: spec(text) for text in names or _CHUNKERS}
    parts: dict[str, Any] = {"embedder": spec(embedder)} if embedder else {}
    out: dict[str, dict[str, dict[str, Any]]] = {}
    for name in datasets or ["smartmem-tiny", "smartmem-web"]:
        frame = measure_chunkers(load_dataset(name, file), wanted, budget=budget, retriever=spec(retriever), **parts)
        figures = {metric: rates(frame, metric, by="chunker", cluster="conversation_id") for metric in _SPANS}
        chunks = frame.groupby("chunker")["chunks"].first().to_dict()
        out[name] = {
            chunker: {"chunks": int(chunks[chunker])} | {metric: figures[metric][chunker] for metric in _SPANS}
            for chunker in wanted
        }
    if json:
        print_json({"budget": budget, "retriever": retriever, "datasets": out})
        return
    for name, rows in out.items():
        print_table(
            f"{name}: {budget} characters a query",
            ["chunker", "chunks", *(metric.replace("_", " ") for metric in _SHOWN)],
            [(chunker, row["chunks"], *(row[metric]["mean"] for metric in _SHOWN)) for chunker, row in rows.items()],
        )
        best = max(rows, key=lambda chunker: float(rows[chunker]["recall"]["mean"]))
        say(f"most recall: {best} {rows[best]['recall']['mean']:.3f}{_span(rows[best]['recall'])}")


def web(
    services: Annotated[
        list[str] | None, typer.Option("--service", help="tavily, brave or searxng; may be given several times")
    ] = None,
    embedder: Annotated[
        str | None, typer.Option("--embedder", help="of stage 2; words only (BM25) without one")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=20, help="texts that each stage hands over")] = 5,
    json: AsJson = False,
) -> None:
    """Web search on the local web of data/web: snippets (stage 1) against spans of the pages (stage 2).

    Evidence recall, wrong sources and latency with 95 % intervals over questions. Asks no real service.

    \b
    Examples:
      smartmem eval web
      smartmem eval web --service tavily --service brave --embedder onnx --json
    """
    from smartmem.evaluation.web_stages import METRICS, compare_stages
    from smartmem.rag.registry import create
    from smartmem.web.local import LocalWeb

    made = create("embedder", spec(embedder)) if embedder else None
    chosen = services or ["tavily"]
    unknown = set(chosen) - {"tavily", "brave", "searxng"}
    if unknown:
        raise typer.BadParameter(f"--service is {min(unknown)!r}; it may be tavily, brave or searxng")
    with LocalWeb() as pages:
        arms: dict[str, Any] = {}
        for name in chosen:
            arms |= {f"{name}: snippets": pages.search(name), f"{name}: pages": pages.rag(name, embedder=made)}
        found = compare_stages(pages.questions(), arms, k=k)
    gains = {name: found.paired("evidence", f"{name}: pages", f"{name}: snippets") for name in chosen}
    if json:
        rows = {metric: found.rows(metric) for metric in METRICS}
        print_json({"k": k, "metrics": rows, "gains": {name: dataclasses.asdict(gain) for name, gain in gains.items()}})
        return
    shown = [
        [metric.replace("_", " "), *(f"{row['mean']:.3f}{_span(row)}" for row in found.rows(metric).values())]
        for metric in METRICS[:3]
    ]
    table = found.table()
    shown += [
        [figure.replace("_", " "), *(f"{row[figure]:,.0f}" for row in table)]
        for figure in ("p50_ms", "p95_ms", "characters", "questions")
    ]
    print_table("", ["", *arms], shown)
    for name, gain in gains.items():
        say(f"{name}: pages find {gain.difference:+.2f} [{gain.lo:+.2f}, {gain.hi:+.2f}] more evidence than snippets")


def memory(
    extractor: Part = "encoder",
    comparator: Part = "encoder",
    split: Annotated[
        str, typer.Option("--split", help="all, or users by number: odd (to tune on), even (to report)")
    ] = "even",
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, max=1, help="how alike two facts must be to count as one")
    ] = 0.5,
    labelled: Annotated[
        list[Path] | None,
        typer.Option("--labelled", help="your own labelled messages instead (data/labelled/README.md)"),
    ] = None,
    json: AsJson = False,
) -> None:
    """Extraction and decisions against the labels of smartmem-tiny: precision, recall, F1, confusion, what was missed.

    With --labelled: extraction alone, against lists of your own; every ten lines count as one person for the intervals.

    \b
    Examples:
      smartmem eval memory
      smartmem eval memory --extractor mock --split odd --json
      smartmem eval memory --extractor rules --labelled tests/develop/en.txt
    """
    from smartmem.evaluation.datasets.gold import load_gold
    from smartmem.evaluation.datasets.labelled import labelled_gold, read_lists
    from smartmem.evaluation.memory_quality import Once, comparator_decider, evaluate_decisions, evaluate_extraction
    from smartmem.evaluation.memory_state import evaluate_state
    from smartmem.memory.comparators import create_comparator
    from smartmem.memory.extract import create_extractor
    from smartmem.viz.quality import OPERATIONS

    if split not in ("all", "odd", "even"):
        raise typer.BadParameter(f"--split is {split!r}; it may be all, odd or even")
    kept = None if split == "all" else split
    gold = labelled_gold(read_lists(labelled)) if labelled else load_gold(split=kept)  # type: ignore[arg-type]  # checked
    of = "labelled messages" if labelled else f"{split} users"
    extracts = Once(create_extractor(spec(extractor)))
    facts = evaluate_extraction(extracts, gold, threshold=threshold)
    decisions = state = None
    if gold.decisions:
        decides = create_comparator(spec(comparator))
        decisions = evaluate_decisions(comparator_decider(decides), gold)
        state = evaluate_state(extracts, decides, gold)
    if json:
        print_json(
            {"of": of, "extractor": extractor, "comparator": comparator, "extraction": dataclasses.asdict(facts)}
            | {
                name: dataclasses.asdict(one) if one else None
                for name, one in (("decisions", decisions), ("state", state))
            }
        )
        return
    rows = [(name, _figure(getattr(facts, name)), getattr(facts, name).count) for name in ("precision", "recall", "f1")]
    print_table(f"facts of {extractor}, {of}, alike from {threshold}", ["figure", "value", "of"], rows)
    say(
        f"right ones in the very words {facts.exact:.3f}, of the right type {facts.typed:.3f}; "
        f"messages without a fact that gave one {facts.noise:.3f}; failed messages {len(facts.failed)}"
    )
    columns = ("precision", "recall", "f1", "gold", "found")
    for kind, groups in facts.by.items():
        print_table(
            "",
            [kind, *columns],
            [(name, *(row[c] if c in columns[:3] else int(row[c]) for c in columns)) for name, row in groups.items()],
        )
    if decisions is None or state is None:
        return
    made = list(dict.fromkeys([*OPERATIONS, *(name for row in decisions.confusion.values() for name in row)]))
    print_table(
        f"decisions of {comparator}: accuracy {_figure(decisions.accuracy)} of {decisions.accuracy.count}",
        ["gold \\ made", *made],
        [(name, *(decisions.confusion[name].get(m, 0) for m in made)) for name in made if name in decisions.confusion],
    )
    say(f"the whole history, {extractor} and {comparator}, leaves {state.active} memories active:")
    for what, among in (("stale", state.removed), ("doubled", state.repeated), ("lost", state.valid)):
        say(f"  {what} {len(getattr(state, what))} of {among}")
    say(f"  that no label knows {len(state.unknown)}")


def gating(
    run: Annotated[Path, typer.Argument(help="the folder of a finished run, e.g. eval/reports/tiny")],
    arms: Annotated[list[str] | None, typer.Option("--arm", help="default: every arm that ran")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="default: the run's first")] = None,
    category: Annotated[str, typer.Option("--category", help="the questions that have no answer")] = "no_answer",
    k: Annotated[int, typer.Option("--k", min=1, help="an answer counts among the first so many hits")] = 5,
    json: AsJson = False,
) -> None:
    """No-answer gating: below which score should nothing be recalled? The threshold is chosen on one half of the
    conversations and reported on the other.

    \b
    Examples:
      smartmem eval gating eval/reports/tiny
      smartmem eval gating eval/reports/tiny --arm hybrid --json
    """
    from smartmem.evaluation.gating import gating_curve
    from smartmem.evaluation.results import load_run

    whole = load_run(run)
    name = dataset or next(iter(whole.metrics))
    ran = [arm for arm in whole.metrics.get(name, {}) if f"{name}/{arm}" not in whole.errors]
    curves = {arm: gating_curve(whole, arm, dataset=name, unanswerable=category, k=k) for arm in arms or ran}
    if json:
        print_json({"dataset": name, "k": k, "arms": {arm: dataclasses.asdict(curve) for arm, curve in curves.items()}})
        return
    rows = [
        (arm, c.auc, _span({"lo": c.auc_lo, "hi": c.auc_hi}).strip(), c.best.threshold)
        + ((c.reported.answered, c.reported.silent) if c.reported else (None, None))
        for arm, c in curves.items()
    ]
    counts = next(iter(curves.values()))
    print_table(
        f"{name}: {counts.answerable} questions with an answer, {counts.unanswerable} without",
        ["arm", "AUC", "95 %", "threshold", "answered", "silent"],
        rows,
    )
    say("AUC 0.5 is chance. answered and silent: on the conversations that the threshold was not chosen on.")


def answers(
    file: Annotated[Path, typer.Argument(help="JSONL: id, question, response, reference, contexts, …")],
    metrics: Annotated[
        list[str] | None, typer.Option("--metric", help="may be given several times; default: all that need no model")
    ] = None,
    judge: Annotated[str, typer.Option("--judge", help="a model of an OpenAI-compatible endpoint")] = "",
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="the endpoint; the key is in OPENAI_API_KEY")
    ] = None,
    embedding_model: Annotated[str, typer.Option("--embedding-model", help="for metrics that compare meanings")] = "",
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="how often the judge is asked")] = 1,
    json: AsJson = False,
) -> None:
    """Score answers and contexts with ragas. What a judge leaves unreadable counts as failed, never as left out.

    \b
    Examples:
      smartmem eval answers answers.jsonl
      smartmem eval answers answers.jsonl --metric faithfulness --judge qwen3 --repeats 3
    """
    import os

    from smartmem.evaluation.metrics import Outcome
    from smartmem.evaluation.ragas_adapter import NO_MODEL, Judge, score_samples
    from smartmem.evaluation.samples import load_samples

    key = os.environ.get("OPENAI_API_KEY", "not-needed")
    made = Judge(model=judge, base_url=base_url, api_key=key, embedding_model=embedding_model) if judge else None
    reports = score_samples(load_samples(file), metrics or NO_MODEL, judge=made, repeats=repeats)
    if json:
        print_json({name: dataclasses.asdict(report) for name, report in reports.items()})
        return
    states = [state for state in Outcome if any(report.counts[state] for report in reports.values())]
    print_table(
        "",
        ["metric", "mean", *states, "spread", "agreement", "off"],
        [
            (name, r.mean, *(r.counts[state] for state in states), r.spread, r.agreement, r.off)
            for name, r in reports.items()
        ],
    )
    failed = [(name, row) for name, r in reports.items() for row in r.rows if row.outcome is Outcome.FAILED]
    for name, row in failed[:10]:
        say(f"failed: {name}, sample {row.sample}: {row.reason}")
    if len(failed) > 10:
        say(f"… and {len(failed) - 10} more")


def _figure(figure: Any) -> str:
    return f"{figure.value:.3f}{_span({'lo': figure.lo, 'hi': figure.hi})}"


def _span(row: Mapping[str, Any]) -> str:
    return "" if row["lo"] is None else f" [{row['lo']:.3f}, {row['hi']:.3f}]"
