"""demo: the main job on data/tiny, in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from smartmem.cli.common import print_scores, print_table, say
from smartmem.cli.doctor import lacking
from smartmem.errors import DataError, MissingExtra, MissingModel
from smartmem.shipped import shipped

SHOWN = 2  # questions in each language whose answer has changed over time: what counts is the newest word


def run(out: Path, data: Path | None) -> None:
    """Import, work, recall, evaluate; ends by naming the report. A second run adds nothing twice."""
    data, arms = data or shipped("data/tiny") or Path("data/tiny"), shipped("eval/suites/tiny.toml")
    if arms is None or not (data / "dialogues.jsonl").exists():
        raise DataError(f"{data} holds no dialogues.jsonl; run the demo in a clone of the project, or name --data")
    # Asked for before anything is written: the steps would ask one after the other, the last at the end of the work.
    for extra in ("onnx", "eval"):
        for package in lacking(extra):
            raise MissingExtra(package, "demo")
    from smartmem.evaluation.datasets.registry import load_dataset
    from smartmem.evaluation.report import write_report
    from smartmem.evaluation.runner import run_suite
    from smartmem.evaluation.suite import load_suite
    from smartmem.evaluation.write_path import write_path
    from smartmem.rag.head import BASE
    from smartmem.workbench import Workbench

    suite = load_suite(arms)
    _ask_for({BASE, *(str(arm.embedder["model"]) for arm in suite.arms if arm.embedder and "model" in arm.embedder)})
    out.mkdir(parents=True, exist_ok=True)
    say("1. a conversation file in: messages and their events, one transaction each batch")
    with Workbench.open(f"sqlite:///{out / 'smartmem.db'}") as bench:
        imported = bench.import_file(data / "dialogues.jsonl", "tiny")
        say(f"   {imported.read} messages, {imported.added} added, {imported.present} already there")
        say("2. relay and workers: events become jobs, jobs become memories and vectors")
        drained = bench.drain()
        say(f"   {drained.events} events, {drained.success} jobs, {drained.dead} dead letters, {drained.seconds:.1f} s")
        state = bench.status()
        print_table("", ["what", "state", "count"], state.rows())
        say("3. recall: what the assistant would remember")
        dataset = load_dataset("smartmem-tiny")
        users = {talk.id: talk.user_id for talk in dataset.conversations}
        questions = [q for q in dataset.queries if q.category == "update"]
        for language in ("en", "zh"):
            for question in [q for q in questions if q.language == language][:SHOWN]:
                found = bench.recall(users[question.conversation_id], question.text, k=3)
                best = " · ".join(item.content for item in found.items) or "(nothing passed the gates)"
                say(f"   {question.text}  →  {best}")
        written = write_path(bench.job_history().to_frame(), bench.memory_latency())
    say(f"4. evaluation: {', '.join(arm.name for arm in suite.arms)}")
    result = run_suite(suite, out / "report")
    report = write_report(result, out / "report", written)
    print_scores(result.table())
    say(f"report: {report.resolve()}")


def _ask_for(models: Iterable[str]) -> None:
    from smartmem.rag.models import resolve

    missing = []
    for model in sorted(models):
        try:
            resolve(model)
        except MissingModel:
            missing.append(model)
    if missing:
        raise MissingModel(*missing)
