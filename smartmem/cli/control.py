"""memory: what a user may see and change of what is remembered about them."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from smartmem.cli.common import (
    AsJson,
    Database,
    SettingsFile,
    UserId,
    point_in_time,
    print_json,
    print_table,
    say,
    workbench,
)
from smartmem.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="One user's memories: list, edit, delete, restore, forget, settings.")

MemoryId = Annotated[str, typer.Argument(help="a memory's id, from `smartmem memory list`")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="say what would change, change nothing")]
Switch = Annotated[bool | None, typer.Option(help="on or off; left out: as it is")]


@app.command("list")
def list_(
    user: UserId,
    type: Annotated[list[str] | None, typer.Option("--type", help="constraint, preference, fact or todo_hint")] = None,
    status: Annotated[
        list[str] | None, typer.Option("--status", help="active (default), superseded, deleted …")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="only memories that contain this")] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="what held then: 2026-01-31, or a time with its zone")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="how many")] = 50,
    offset: Annotated[int, typer.Option("--offset", min=0, help="after so many")] = 0,
    database: Database = None,
    settings: SettingsFile = None,
    json: AsJson = False,
) -> None:
    """List a user's memories, the newest first, or as they were on a date.

    \b
    Examples:
      smartmem memory list --user 1
      smartmem memory list --user 1 --status superseded --status deleted --json
      smartmem memory list --user 1 --as-of 2026-01-31
    """
    when = point_in_time(as_of) if as_of else None
    more: dict[str, Any] = {"statuses": tuple(status)} if status else {}
    with workbench(database, settings, create=False) as bench:
        page = bench.memories(
            user, memory_types=tuple(type or ()), text=text, as_of=when, limit=limit, offset=offset, **more
        )
    if json:
        print_json({"total": page.total, "items": [item.to_json() for item in page.items]})
        return
    print_table(
        f"{page.total} memories",
        ["id", "type", "status", "since", "memory"],
        [(i.id, i.memory_type, i.status, f"{i.valid_from:%Y-%m-%d}", i.content) for i in page.items],
    )
    if page.next_offset is not None:
        say(f"more: --offset {page.next_offset}")


@app.command()
def show(
    id: MemoryId, user: UserId, database: Database = None, settings: SettingsFile = None, json: AsJson = False
) -> None:
    """Show one memory whole. Its version is what an edit has to name.

    \b
    Example:
      smartmem memory show 01a20ab2-281e-749e-98e3-78802ce1a857 --user 1
    """
    with workbench(database, settings, create=False) as bench:
        item = bench.memory(user, id)
    _print_item(item, json)


@app.command()
def edit(
    id: MemoryId,
    user: UserId,
    version: Annotated[int, typer.Option("--version", help="the version you saw; a newer one is not overwritten")],
    content: Annotated[str | None, typer.Option("--content", help="the new words")] = None,
    type: Annotated[str | None, typer.Option("--type", help="the new type")] = None,
    database: Database = None,
    settings: SettingsFile = None,
    json: AsJson = False,
) -> None:
    """Change a memory's words or type; the audit keeps what it was.

    \b
    Example:
      smartmem memory edit 01a20ab2-281e-749e-98e3-78802ce1a857 --user 1 --version 1 --content "I eat fish."
    """
    if content is None and type is None:
        raise ConfigError("nothing to change: give --content or --type")
    with workbench(database, settings, create=False) as bench:
        item = bench.edit(user, id, version=version, content=content, memory_type=type)
    _print_item(item, json)


@app.command()
def delete(
    id: MemoryId, user: UserId, database: Database = None, settings: SettingsFile = None, json: AsJson = False
) -> None:
    """Delete a memory: it is never recalled again, but can be restored.

    \b
    Example:
      smartmem memory delete 01a20ab2-281e-749e-98e3-78802ce1a857 --user 1
    """
    with workbench(database, settings, create=False) as bench:
        item = bench.delete(user, id)
    _print_item(item, json)


@app.command()
def restore(
    id: MemoryId, user: UserId, database: Database = None, settings: SettingsFile = None, json: AsJson = False
) -> None:
    """Make a deleted, superseded or expired memory active again.

    \b
    Example:
      smartmem memory restore 01a20ab2-281e-749e-98e3-78802ce1a857 --user 1
    """
    with workbench(database, settings, create=False) as bench:
        item = bench.restore(user, id)
    _print_item(item, json)


@app.command()
def forget(
    id: MemoryId,
    user: UserId,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask; there is no way back")] = False,
    database: Database = None,
    settings: SettingsFile = None,
    json: AsJson = False,
) -> None:
    """Remove a memory for good: its text in audit rows, decisions, jobs, events and vectors too. Says what it emptied.

    \b
    Example:
      smartmem memory forget 01a20ab2-281e-749e-98e3-78802ce1a857 --user 1 --yes
    """
    if not yes:
        typer.confirm(f"Forget memory {id} of user {user} for good?", abort=True)
    with workbench(database, settings, create=False) as bench:
        done = bench.forget(user, id)
    if json:
        print_json(dataclasses.asdict(done))
        return
    print_table("emptied", ["what", "count"], [(k, v) for k, v in dataclasses.asdict(done).items() if v is not None])


@app.command()
def expire(
    user: Annotated[int | None, typer.Option("--user", help="only this user's")] = None,
    dry_run: DryRun = False,
    database: Database = None,
    settings: SettingsFile = None,
) -> None:
    """Expire memories whose time has ended; recall leaves them out anyway.

    \b
    Example:
      smartmem memory expire --dry-run
    """
    with workbench(database, settings, create=False) as bench:
        count = bench.expire(user_id=user, dry_run=dry_run)
    say(f"{count} memories {'would expire' if dry_run else 'expired'}")


@app.command()
def switches(
    user: UserId,
    memory: Switch = None,
    implicit: Switch = None,
    sensitive: Switch = None,
    database: Database = None,
    settings: SettingsFile = None,
    json: AsJson = False,
) -> None:
    """Show or set what a user allows: memory at all, memories they did not ask for, sensitive ones.

    \b
    Examples:
      smartmem memory switches --user 1
      smartmem memory switches --user 1 --no-implicit --sensitive
    """
    changed = (memory, implicit, sensitive) != (None, None, None)
    with workbench(database, settings, create=False) as bench:
        now = (
            bench.set_user_settings(
                user,
                memory_enabled=memory,
                implicit_memory_enabled=implicit,
                sensitive_memory_enabled=sensitive,
            )
            if changed
            else bench.user_settings(user)
        )
    if json:
        print_json(dataclasses.asdict(now))
        return
    rows = [(name, "on" if on else "off") for name, on in dataclasses.asdict(now).items()]
    print_table(f"user {user}", ["switch", "is"], rows)


@app.command()
def dedupe(
    user: UserId,
    keep: Annotated[str, typer.Option("--keep", help="which one of a group stays: newest or confident")] = "newest",
    apply: Annotated[bool, typer.Option("--apply", help="archive the others; without it nothing is changed")] = False,
    database: Database = None,
    settings: SettingsFile = None,
    json: AsJson = False,
) -> None:
    """Find memories that say the same and, with --apply, archive all but one of each group.

    \b
    Example:
      smartmem memory dedupe --user 1
    """
    with workbench(database, settings, create=False) as bench:
        groups = bench.dedupe(user, keep=keep, dry_run=not apply)
    if json:
        print_json([dataclasses.asdict(group) for group in groups])
        return
    for group in groups:
        say(str(group))
    say(
        f"{len(groups)} groups of duplicates"
        + ("" if apply or not groups else "; --apply archives all but one of each")
    )


def _print_item(item: Any, json: bool) -> None:
    if json:
        print_json(item.to_json())
    else:
        print_table("", ["field", "value"], list(item.to_json().items()))
