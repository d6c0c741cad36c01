"""eval: run suites, compare and gate runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smartmem.cli import parts, runs
from smartmem.cli.common import (
    NOT_PASSED,
    AsJson,
    Database,
    SettingsFile,
    print_json,
    print_scores,
    print_table,
    say,
    workbench,
)

if TYPE_CHECKING:
    from smartmem.evaluation.write_path import WritePath

app = typer.Typer(no_args_is_help=True, help="Measure: run a suite, read its report, compare, gate, verify.")

runs.add_to(app)
parts.add_to(app)

SuiteFile = Annotated[Path, typer.Argument(help="a suite, e.g. eval/suites/tiny.toml")]
Arms = Annotated[list[str] | None, typer.Option("--arm", help="only this arm; may be given several times")]
LimitQueries = Annotated[
    int | None,
    typer.Option("--limit-queries", min=1, help="a sample of so many queries of each dataset"),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="compute everything anew, whatever the cache holds")]
WritePathUrl = Annotated[
    str | None,
    typer.Option("--write-path", metavar="URL", help="a database whose jobs and memories stand in the report too"),
]


@app.command("plan")
def plan_(
    suite: SuiteFile,
    arms: Arms = None,
    limit_queries: LimitQueries = None,
    fresh: Fresh = False,
    json: AsJson = False,
) -> None:
    """What a run would still have to do: documents, vectors, pairs to rerank. Exit status 1 if an arm cannot run.

    \b
    Example:
      smartmem eval plan eval/suites/locomo.toml
    """
    from smartmem.evaluation.runner import plan
    from smartmem.evaluation.suite import load_suite

    found = plan(load_suite(suite, arms=arms or (), limit_queries=limit_queries), resume=not fresh)
    if json:
        print_json(
            [
                {"dataset": c.dataset, "arm": c.arm, "error": c.error} | (c.costs._asdict() if c.costs else {})
                for c in found.cells
            ]
        )
    else:
        say(str(found))
    if any(cell.error for cell in found.cells):
        raise typer.Exit(NOT_PASSED)


@app.command()
def run(
    suite: SuiteFile,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder of the report  [default: eval/reports/SUITE]")
    ] = None,
    arms: Arms = None,
    limit_queries: LimitQueries = None,
    fresh: Fresh = False,
    write_path: WritePathUrl = None,
    plan_only: Annotated[bool, typer.Option("--plan", help="print what it would cost, and stop")] = False,
    json: AsJson = False,
) -> None:
    """Run every arm of a suite on every dataset and write the report.

    Prints what is still to be computed, then works with a progress bar. A run that was killed goes on where it
    stopped. An arm that cannot run is named with its reason, and the others go on; the exit status is 1 then.

    \b
    Examples:
      smartmem eval run eval/suites/tiny.toml
      smartmem eval run eval/suites/locomo.toml --arm bm25 --arm hybrid --json
    """
    from smartmem.evaluation.report import write_report
    from smartmem.evaluation.runner import plan, run_suite
    from smartmem.evaluation.suite import load_suite

    wanted = load_suite(suite, arms=arms or (), limit_queries=limit_queries)
    if not json:
        say(str(plan(wanted, resume=not fresh)))
    if plan_only:
        return
    folder = out or Path("eval/reports") / wanted.name
    written = _written(write_path) if write_path else None  # before the run: a wrong URL is told at once
    result = run_suite(wanted, folder, resume=not fresh)
    report = write_report(result, folder, written)
    if json:
        print_json(
            {"folder": str(folder), "report": str(report), "metrics": result.metrics, "latency": result.latency}
            | {"errors": result.errors}
        )
    else:
        print_scores(result.table())
        for arm, reason in result.errors.items():
            say(f"could not run: {arm}: {reason}")
        say(f"report: {report}")
    if result.errors:
        raise typer.Exit(NOT_PASSED)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="the folder of a finished run, e.g. eval/reports/tiny")],
    write_path: WritePathUrl = None,
) -> None:
    """Write report.html and report.md of a finished run again, with the write path of a database if one is named.

    \b
    Examples:
      smartmem eval report eval/reports/tiny
      smartmem eval report eval/reports/tiny --write-path sqlite:///smartmem.db
    """
    from smartmem.evaluation.report import write_report
    from smartmem.evaluation.results import load_run

    say(f"report: {write_report(load_run(run), run, _written(write_path) if write_path else None)}")


@app.command("write-path")
def write_path_(database: Database = None, settings: SettingsFile = None, json: AsJson = False) -> None:
    """The write path from a database's own history: states, throughput, latencies, retries, dead letters.

    \b
    Example:
      smartmem eval write-path --database sqlite:///smartmem.db
    """
    found = _written(database, settings)
    if json:
        print_json(dataclasses.asdict(found))
        return
    say(
        f"{found.jobs} jobs in {found.seconds:.1f} s, {found.jobs_per_s:.1f} a second; {found.retries} retries "
        f"({found.retry_rate:.2f} a job), {found.dead} dead letters"
    )
    print_table("", ["state", "jobs"], list(found.by_state.items()))
    rows = (("job, first event to last", found.job_latency_s), ("message to memory", found.message_to_memory_s))
    names = ["p50", "p90", "p95", "p99"]
    print_table("", ["seconds", *names], [(what, *(row[n] for n in names)) for what, row in rows if row])


def _written(database: str | None, settings: Path | None = None) -> WritePath:
    from smartmem.evaluation.write_path import write_path

    with workbench(database, settings, create=False) as bench:
        return write_path(bench.job_history().to_frame(), bench.memory_latency())
