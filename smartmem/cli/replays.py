"""replay, diff: the same history through another extractor or decision mode, and what would be remembered otherwise."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import Annotated

import typer

from smartmem.cli.common import AsJson, Database, SettingsFile, print_json, print_table, say, workbench


class WriteMode(StrEnum):
    """The setting `memory.write.mode`."""

    LEGACY = "legacy"
    SHADOW = "shadow"
    DECISION = "decision"


OneUser = Annotated[int | None, typer.Option("--user", min=1, help="only this user's  [default: all users]")]


def add_to(app: typer.Typer) -> None:
    """Register the commands at the top level."""
    app.command()(replay)
    app.command()(diff)


def replay(
    into: Annotated[str, typer.Option("--into", help="name of the namespace that the memories go to")],
    extractor: Annotated[
        str | None, typer.Option("--extractor", help="rules, mock or llm  [default: the settings', with its options]")
    ] = None,
    mode: Annotated[
        WriteMode | None, typer.Option("--mode", help="how facts are written  [default: the settings']")
    ] = None,
    user: OneUser = None,
    database: Database = None,
    settings: SettingsFile = None,
    json: AsJson = False,
) -> None:
    """Ask for the whole history to be extracted again, into a namespace of its own; the main memories stay as they are.

    Writes one job for each user message. `smartmem work` does them like all others, and `smartmem diff main NAME` then
    says what differs. A second call with the same options asks for nothing twice.

    \b
    Examples:
      smartmem replay --extractor mock --into try-mock
      smartmem replay --settings other.toml --mode legacy --into try-other --user 1
    """
    with workbench(database, settings, create=False) as bench:
        asked = bench.replay(into, extractor=extractor, write_mode=mode.value if mode else None, user_id=user)
    if json:
        print_json({"into": into, "jobs": asked})
        return
    say(f"{asked} messages are to be extracted again, into {into!r}")
    say(f"next: smartmem work --drain, then smartmem diff main {into}")


def diff(
    a: Annotated[str, typer.Argument(help="a namespace: main, or one that was replayed into")],
    b: Annotated[str, typer.Argument(help="the namespace to hold against it")],
    user: OneUser = None,
    database: Database = None,
    settings: SettingsFile = None,
    json: AsJson = False,
) -> None:
    """Say what is remembered in one namespace and not in the other, user by user.

    \b
    Example:
      smartmem diff main try-mock
    """
    with workbench(database, settings, create=False) as bench:
        found = bench.diff(a, b, user_id=user)
    if json:
        print_json([dataclasses.asdict(one) for one in found])
        return
    rows: list[tuple[int, str, str]] = []
    for one in found:
        rows += [(one.user_id, f"only in {a}", text) for text in one.only_a]
        rows += [(one.user_id, f"only in {b}", text) for text in one.only_b]
        rows += [(one.user_id, "reworded", f"{left}  →  {right}") for left, right in one.reworded]
    for name, empty in (
        (a, not any(d.both or d.only_a or d.reworded for d in found)),
        (b, not any(d.both or d.only_b or d.reworded for d in found)),
    ):
        if empty:
            say(f"note: nothing is active in {name!r}; are its jobs done (smartmem status), is the name right?")
    print_table("", ["user", "where", "memory"], rows)
    same = sum(len(one.both) for one in found)
    say(f"{len(found)} users: {same} memories the same, {len(rows)} differ")
