"""recall, explain, lineage, reconcile, reembed: what the assistant would remember, why, and where it came from."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from pathlib import Path
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


class What(StrEnum):
    """What to search."""

    BOTH = "both"
    MEMORIES = "memories"
    TURNS = "turns"


class RecallMode(StrEnum):
    """The setting `memory.read.mode`."""

    LEGACY = "legacy"
    RAG = "rag"
    HYBRID = "hybrid"


MemoryId = Annotated[str, typer.Argument(help="a memory's id, from `smartmem memory list`")]


def add_to(app: typer.Typer) -> None:
    """Register the commands at the top level."""
    for command in (recall, explain, lineage, reconcile, reembed):
        app.command()(command)


def recall(
    query: Annotated[str, typer.Argument(help="what is asked, in any words")],
    user: UserId,
    what: Annotated[What, typer.Option("--what", help="search memories, chat turns or both")] = What.BOTH,
    mode: Annotated[RecallMode | None, typer.Option("--mode", help="how memories are found  [default: hybrid]")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="how many of each")] = 5,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="what was held true then: 2026-01-31, or a time with its zone")
    ] = None,
    database: Database = None,
    settings: SettingsFile = None,
    json: AsJson = False,
) -> None:
    """Rank one user's memories, and the chat turns themselves, for a question.

    Memories passed the gates of the injection (score, settings, expiry, budget); those left out are counted by
    reason. Turns come straight from the chat history. With --as-of the memories are those that held then, also ones
    that were replaced since; what the user deleted stays deleted.

    \b
    Examples:
      smartmem recall --user 1 "When did Caroline go to the support group?"
      smartmem recall --user 1 --what memories --mode rag -k 10 "我不能吃什么？" --json
      smartmem recall --user 1 --what memories --as-of 2026-01-31 "Where do I live?"
    """
    memories = turns = None
    when = point_in_time(as_of) if as_of else None
    with workbench(database, settings, create=False) as bench:
        if what is not What.TURNS:
            memories = bench.recall(user, query, mode=mode.value if mode else None, k=k, as_of=when)
        if what is not What.MEMORIES:
            turns = bench.search_turns(user, query, k=k)
    if json:
        found = {
            "query": query,
            "user_id": user,
            "memories": dataclasses.asdict(memories) if memories else None,
            "turns": dataclasses.asdict(turns) if turns else None,
        }
        print_json(found)
        return
    if memories:
        _print_memories(memories)
    if turns:
        print_table(
            "turns",
            ["score", "speaker", "said", "text", "source"],
            [(h.score, h.speaker, h.occurred_at[:16], _short(h.text), h.conversation_id) for h in turns.hits],
        )
        if turns.fallback_reason:
            say(f"note: {turns.fallback_reason}")
    if not (memories and memories.items) and not (turns and turns.hits):
        say(f"nothing found for user {user}; `smartmem status` shows what is stored")


def explain(
    query: Annotated[str, typer.Argument(help="what is asked")],
    user: UserId,
    mode: Annotated[RecallMode | None, typer.Option("--mode", help="how memories are found  [default: hybrid]")] = None,
    database: Database = None,
    settings: SettingsFile = None,
    json: AsJson = False,
) -> None:
    """Say of every memory of a user why it would be injected for a query, or why not.

    \b
    Example:
      smartmem explain --user 1 "What may I not eat?"
    """
    from smartmem.memory.explain import explain as account

    with workbench(database, settings, create=False) as bench:
        found = account(bench.recaller, user, query, mode=mode.value if mode else None)
    if json:
        print_json(dataclasses.asdict(found))
        return
    print_table(
        "",
        ["code", "score", "type", "memory", "because"],
        [(v.code, v.score, v.memory.memory_type, v.memory.content, v.detail) for v in found.verdicts],
    )


def lineage(
    id: MemoryId, user: UserId, database: Database = None, settings: SettingsFile = None, json: AsJson = False
) -> None:
    """Walk a memory's way: message, event, job, decision, memory, audit, vector row.

    \b
    Example:
      smartmem lineage 01a20ab2-281e-749e-98e3-78802ce1a857 --user 1
    """
    from smartmem.memory.explain import lineage as walk

    with workbench(database, settings, create=False) as bench:
        steps = walk(bench.db, user, id, store=bench.store)
    if json:
        print_json([dataclasses.asdict(step) for step in steps])
        return
    print_table(
        "",
        ["stage", "at", "id", "what is known"],
        [(s.stage, s.at, s.id, ", ".join(f"{k}={v}" for k, v in s.facts.items())) for s in steps],
    )


def reconcile(
    user: Annotated[int | None, typer.Option("--user", help="only this user's memories")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would change, change nothing")] = False,
    database: Database = None,
    settings: SettingsFile = None,
    json: AsJson = False,
) -> None:
    """Compare memories with the vector store, both ways, and mend the store; says what it mended.

    \b
    Example:
      smartmem reconcile --dry-run
    """
    with workbench(database, settings, create=False) as bench:
        drift = bench.reconcile(user_id=user, dry_run=dry_run)
    found = dataclasses.asdict(drift)
    if json:
        print_json(found)
        return
    print_table("", ["what", "count"], [(k, v) for k, v in found.items() if k not in ("examples", "dry_run")])


def reembed(
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="settings with the new embedder and its new store")],
    follow: Annotated[
        bool, typer.Option("--follow", help="go on until Ctrl-C, so that the new store lags by a second at most")
    ] = False,
    database: Database = None,
    settings: SettingsFile = None,
    json: AsJson = False,
) -> None:
    """Embed all memories by another embedder into a store of its own, while everything goes on with the old one.

    Run it with --follow, restart workers and services with the new settings one after the other, then end it. Nothing
    has to be stopped before; a second run does only what is missing.

    \b
    Examples:
      smartmem reembed --to new.toml
      smartmem reembed --to new.toml --follow
    """
    from smartmem.workbench.moving import move
    from smartmem.workbench.running import until_told

    with workbench(database, settings, create=False) as bench, until_told() as told:
        if follow:
            say(f"filling the store of {to} and following; Ctrl-C ends when everything has been restarted with it")
        moved = move(bench, to, follow=told if follow else None)
    if json:
        print_json(dataclasses.asdict(moved))
        return
    say(f"{moved.embedded} memories embedded by {moved.embedder} into {moved.store}; {moved.removed} removed from it")
    if not follow:
        say(f"next: smartmem reembed --to {to} --follow, and restart workers and services with it one after the other")


def _print_memories(found: Any) -> None:
    print_table(
        f"memories ({found.mode})",
        ["score", "type", "memory", "since", "source"],
        [
            (i.score, i.memory_type, _short(i.content), f"{i.valid_from:%Y-%m-%d}", _source(i.source))
            for i in found.items
        ],
    )
    if found.blocked:
        say(f"note: {found.blocked}: this user has switched memory off")
    if found.fallback_reason:
        say(f"note: ranked by SQL: {found.fallback_reason}")
    reasons: dict[str, int] = {}
    for item in found.dropped:
        reasons[item.reason] = reasons.get(item.reason, 0) + 1
    if reasons:
        say("left out: " + ", ".join(f"{count} {code}" for code, count in sorted(reasons.items())))


def _source(source: Any) -> str:
    if source is None:
        return ""
    who = f"{source.speaker or source.role}, {source.occurred_at:%Y-%m-%d}"
    return f"{who}, {source.conversation_id}"


def _short(text: str, limit: int = 160) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
