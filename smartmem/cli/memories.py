"""recall: what the assistant would remember, with scores and sources."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import Annotated, Any

import typer

from smartmem.cli.common import AsJson, Database, SettingsFile, UserId, print_json, print_table, say, workbench


class What(StrEnum):
    """What to search."""

    BOTH = "both"
    MEMORIES = "memories"
    TURNS = "turns"


class RecallMode(StrEnum):
    """SPEC §8: `memory.read.mode`."""

    LEGACY = "legacy"
    RAG = "rag"
    HYBRID = "hybrid"


def add_to(app: typer.Typer) -> None:
    """Register the commands at the top level."""
    app.command()(recall)


def recall(
    query: Annotated[str, typer.Argument(help="what is asked, in any words")],
    user: UserId,
    what: Annotated[What, typer.Option("--what", help="search memories, chat turns or both")] = What.BOTH,
    mode: Annotated[RecallMode | None, typer.Option("--mode", help="how memories are found  [default: hybrid]")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="how many of each")] = 5,
    database: Database = None,
    settings: SettingsFile = None,
    json: AsJson = False,
) -> None:
    """Rank one user's memories, and the chat turns themselves, for a question.

    Memories passed the gates of the injection (score, settings, expiry, budget); those left out are counted by
    reason. Turns come straight from the chat history.

    \b
    Examples:
      smartmem recall --user 1 "When did Caroline go to the support group?"
      smartmem recall --user 1 --what memories --mode rag -k 10 "我不能吃什么？" --json
    """
    memories = turns = None
    with workbench(database, settings, create=False) as bench:
        if what is not What.TURNS:
            memories = bench.recall(user, query, mode=mode.value if mode else None, k=k)
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
