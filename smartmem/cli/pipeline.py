"""import, work, status, demo: the chain from a conversation file to memories."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smartmem.cli.common import AsJson, Database, SettingsFile, print_json, print_table, say, workbench
from smartmem.errors import BadRecord, ConfigError, StoreUnavailable

if TYPE_CHECKING:
    from smartmem.workbench import ImportReport


def add_to(app: typer.Typer) -> None:
    """Register the commands at the top level."""
    app.command("import")(import_)
    app.command()(work)
    app.command()(status)
    app.command()(demo)


def import_(
    file: Annotated[Path, typer.Argument(help="the conversation file, or a folder for formats of several files")],
    format: Annotated[
        str, typer.Option("--format", "-f", help="jsonl, locomo, realtalk, longmemeval, madial, beam or tiny")
    ] = "jsonl",
    database: Database = None,
    settings: SettingsFile = None,
    json: AsJson = False,
) -> None:
    """Read a conversation file and append each message with its event, in batches.

    The whole file is checked first: a bad record refuses the file and writes nothing. Messages that are already
    there are left alone, so a second run, or a run after a kill, adds only what is missing. A message that the
    database refuses (its conversation belongs to another user) is named, and the exit status is 2.

    \b
    Examples:
      smartmem import chats.jsonl
      smartmem import ../shared/benchmarks/locomo/locomo10.json --format locomo
    """
    with workbench(database, settings) as bench:
        report = bench.import_file(file, format)
    if json:
        print_json(report.to_dict())
        _end_of_import(report)
        return
    say(
        f"{file}: {report.read} messages in {report.conversations} conversations; "
        f"{report.added} added, {report.present} already there, {report.events} events written ({report.seconds:.1f} s)"
    )
    if report.events:
        say("next: smartmem work --drain")
    _end_of_import(report)


def _end_of_import(report: ImportReport) -> None:
    """Messages that were not taken are an error, after the others have been told."""
    if report.refused:
        more = f" (and {len(report.refused) - 1} more; --json lists them)" if len(report.refused) > 1 else ""
        raise BadRecord(f"{report.file}: {len(report.refused)} of {report.read} refused: {report.refused[0]}{more}")


def work(
    drain: Annotated[bool, typer.Option("--drain", help="stop when nothing is left to do")] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="worker processes  [default: 1]")] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port", min=1, max=65_535, help="serve Prometheus here; further workers on the next ports"
        ),
    ] = None,
    database: Database = None,
    settings: SettingsFile = None,
    json: AsJson = False,
) -> None:
    """Run the relay and the workers: events become jobs, jobs become memories and vectors.

    Without --drain it goes on until Ctrl-C or SIGTERM, and then finishes or releases what it holds.

    \b
    Examples:
      smartmem work --drain
      smartmem work --workers 4
      smartmem work --metrics-port 9464
    """
    with workbench(database, settings, create=False) as bench:
        if drain:
            if metrics_port is not None:
                raise ConfigError("--metrics-port is for work that goes on: leave out --drain")
            report = bench.drain(workers=workers)
        else:
            say(f"working on {bench.database_name}; Ctrl-C stops")
            report = bench.work(workers=workers, metrics_port=metrics_port)
    if json:
        print_json(report.to_dict())
    else:
        say(
            f"{report.events} events relayed, {report.success} jobs done, {report.failed} failed attempts, "
            f"{report.dead} dead letters ({report.seconds:.1f} s)"
        )
        if report.dead and not report.away:
            say("next: smartmem jobs list --status dead, smartmem outbox list --status dead")
    if report.away:
        raise StoreUnavailable(
            f"{report.away}; the memories are written, and `smartmem work` makes their vectors when it is back"
        )


def status(database: Database = None, settings: SettingsFile = None, json: AsJson = False) -> None:
    """Show the states of events, jobs, memories and vectors, the queue's depth and its oldest age.

    \b
    Examples:
      smartmem status
      smartmem status --json
    """
    with workbench(database, settings, create=False) as bench:
        state = bench.status()
    if json:
        print_json(state.to_dict())
        return
    print_table("", ["what", "state", "count"], state.rows())
    say(state.summary())


def demo(
    out: Annotated[Path, typer.Option("--out", help="folder for the database, the vectors and the report")] = Path(
        "demo-out"
    ),
    data: Annotated[Path | None, typer.Option("--data", help="the corpus to run on; data/tiny unless given")] = None,
) -> None:
    """Run the main job on data/tiny in a folder of its own: import, work, recall, evaluate, report.

    \b
    Example:
      smartmem demo --out demo-out
    """
    from smartmem.cli.demo import run

    run(out, data)
