"""jobs and outbox: what waits, what failed, and what to do about dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from smartmem.cli.common import AsJson, Database, SettingsFile, print_json, print_table, say, workbench
from smartmem.errors import ConfigError
from smartmem.types import EventStatus, JobStatus

if TYPE_CHECKING:
    from smartmem.db.dead_letters import DeadFilter

Room = Literal["jobs", "outbox"]

Ids = Annotated[list[int] | None, typer.Argument(help="ids of dead letters")]
Kind = Annotated[str | None, typer.Option("--type", help="all dead letters of this type")]
Reason = Annotated[str | None, typer.Option("--reason", help="all dead letters whose last error contains this")]
Everything = Annotated[bool, typer.Option("--all", help="all dead letters")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="show which, change nothing")]
State = Annotated[str | None, typer.Option("--status", help="only rows in this state, e.g. dead")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="how many rows")]


def _make(room: Room, noun: str, statuses: Sequence[str]) -> typer.Typer:
    """The same commands for both tables: they are one mechanism (docs/adr/0002-leases.md)."""
    app = typer.Typer(no_args_is_help=True, help=f"Look at {noun}s; replay or discard dead letters.")
    known = ", ".join(statuses)

    @app.command(
        "list",
        help=f"List {noun}s, the newest first.\n\n\b\nExamples:\n  smartmem {room} list\n"
        f"  smartmem {room} list --status dead --limit 20",
    )
    def list_(
        status: State = None,
        limit: Limit = 50,
        database: Database = None,
        settings: SettingsFile = None,
        json: AsJson = False,
    ) -> None:
        if status is not None and status not in statuses:
            raise ConfigError(f"--status {status!r} is none of {known}")
        with workbench(database, settings, create=False) as bench:
            rows = (bench.jobs if room == "jobs" else bench.outbox).list(status=status, limit=limit)
        if json:
            print_json([dict(row._mapping) for row in rows])
            return
        print_table(
            "",
            ["id", "type", "status", "failures", "due", "last error"],
            [
                (
                    row.id,
                    row.job_type if room == "jobs" else row.event_type,
                    row.status,
                    f"{row.retry_count} of {row.max_retry}",
                    None if row.due_at is None else f"{row.due_at:%Y-%m-%d %H:%M:%S}",
                    (row.last_error or "")[:120],
                )
                for row in rows
            ],
        )

    @app.command(
        help=f"Show one {noun} whole, with its history of states where there is one.\n\n\b\nExample:\n"
        f"  smartmem {room} show 17"
    )
    def show(
        id: Annotated[int, typer.Argument(help="its id")],
        database: Database = None,
        settings: SettingsFile = None,
        json: AsJson = False,
    ) -> None:
        with workbench(database, settings, create=False) as bench:
            row, history = (bench.jobs if room == "jobs" else bench.outbox).dead.show(id)
        if json:
            print_json({**row._mapping, "history": [dict(line._mapping) for line in history]})
            return
        print_table("", ["column", "value"], list(row._mapping.items()))
        if history:
            print_table(
                "history",
                ["at", "from", "to", "attempt", "worker", "reason"],
                [(h.at, h.from_status, h.to_status, h.attempt, h.worker_id, h.reason) for h in history],
            )

    @app.command(
        help=f"Give dead {noun}s a new life: pending, with all attempts before them.\n\n\b\nExamples:\n"
        f"  smartmem {room} replay 17 18\n  smartmem {room} replay --reason timeout --dry-run"
    )
    def replay(
        ids: Ids = None,
        type: Kind = None,
        reason: Reason = None,
        all: Everything = False,
        dry_run: DryRun = False,
        database: Database = None,
        settings: SettingsFile = None,
        json: AsJson = False,
    ) -> None:
        which = _which(ids, type, reason, all)
        with workbench(database, settings, create=False) as bench:
            done = (bench.jobs if room == "jobs" else bench.outbox).replay(which, dry_run=dry_run)
        _tell(done, noun, "would be replayed" if dry_run else "replayed; next: smartmem work --drain", json)

    @app.command(
        help=f"Take dead {noun}s off the list for good; the reason is kept with them.\n\n\b\nExample:\n"
        f'  smartmem {room} discard 17 --because "test data"'
    )
    def discard(
        because: Annotated[str, typer.Option("--because", help="why; it is all that will explain the loss")],
        ids: Ids = None,
        type: Kind = None,
        reason: Reason = None,
        all: Everything = False,
        dry_run: DryRun = False,
        database: Database = None,
        settings: SettingsFile = None,
        json: AsJson = False,
    ) -> None:
        which = _which(ids, type, reason, all)
        with workbench(database, settings, create=False) as bench:
            done = (bench.jobs if room == "jobs" else bench.outbox).discard(which, because, dry_run=dry_run)
        _tell(done, noun, "would be discarded" if dry_run else "discarded", json)

    @app.command(
        help=f"Delete finished {noun}s after their retention time (a setting), never before.\n\n\b\nExample:\n"
        f"  smartmem {room} prune"
    )
    def prune(database: Database = None, settings: SettingsFile = None, json: AsJson = False) -> None:
        with workbench(database, settings, create=False) as bench:
            count = (bench.jobs if room == "jobs" else bench.outbox).prune()
        if json:
            print_json({"pruned": count})
        else:
            say(f"{count} {noun}s pruned")

    return app


def _which(ids: list[int] | None, kind: str | None, reason: str | None, everything: bool) -> DeadFilter:
    from smartmem.db.dead_letters import DeadFilter

    if not (ids or kind or reason or everything):
        raise ConfigError("name what to change: ids, --type, --reason or --all (try --dry-run first)")
    return DeadFilter(ids=ids or None, kind=kind, reason_like=reason)


def _tell(ids: Sequence[int], noun: str, done: str, json: bool) -> None:
    if json:
        print_json({"ids": list(ids)})
        return
    shown: list[Any] = list(ids[:20])
    more = f" and {len(ids) - 20} more" if len(ids) > 20 else ""
    say(f"{len(ids)} {noun}s {done}" + (f": {', '.join(map(str, shown))}{more}" if ids else ""))


jobs = _make("jobs", "job", [status.value for status in JobStatus])
outbox = _make("outbox", "event", [status.value for status in EventStatus])
