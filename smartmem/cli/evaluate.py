"""eval: run suites, compare and gate runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smartmem.cli import runs
from smartmem.cli.common import AsJson, print_json, print_scores, say

app = typer.Typer(no_args_is_help=True, help="Measure: run a suite, read its report, compare, gate, verify.")

runs.add_to(app)

SuiteFile = Annotated[Path, typer.Argument(help="a suite, e.g. eval/suites/tiny.toml")]


@app.command()
def run(
    suite: SuiteFile,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder of the report  [default: eval/reports/SUITE]")
    ] = None,
    arms: Annotated[list[str] | None, typer.Option("--arm", help="only this arm; may be given several times")] = None,
    limit_queries: Annotated[
        int | None, typer.Option("--limit-queries", min=1, help="only so many queries of each dataset, spread evenly")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="compute everything anew, whatever the cache holds")] = False,
    plan_only: Annotated[bool, typer.Option("--plan", help="print what it would cost, and stop")] = False,
    json: AsJson = False,
) -> None:
    """Run every arm of a suite on every dataset and write the report.

    Prints what is still to be computed, then works with a progress bar. A run that was killed goes on where it
    stopped. An arm that cannot run is named with its reason, and the others go on.

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
    result = run_suite(wanted, folder, resume=not fresh)
    report = write_report(result, folder)
    if json:
        print_json({"folder": str(folder), "report": str(report), "metrics": result.metrics, "latency": result.latency})
        return
    print_scores(result.table())
    for arm, reason in result.errors.items():
        say(f"could not run: {arm}: {reason}")
    say(f"report: {report}")
