"""What a user may see and change of their memories, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Cli

SAID = ["I am allergic to peanuts.", "I live in Oslo.", "I prefer tea over coffee."]


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> Cli:
    """A database with three memories of user 3, and one of user 4."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SMARTMEM_DATABASE_URL", raising=False)
    Path("smartmem.toml").write_text('embedder = { name = "mock" }\n', "utf-8")
    lines = [(3, text) for text in SAID] + [(4, "I live in Rome.")]
    Path("chat.jsonl").write_text(
        "".join(
            json.dumps(
                {
                    "conversation_id": f"c{user}",
                    "user_id": user,
                    "client_message_id": str(n),
                    "role": "user",
                    "content": text,
                    "occurred_at": f"2026-01-0{n + 1}T09:00:00Z",
                }
            )
            + "\n"
            for n, (user, text) in enumerate(lines)
        ),
        "utf-8",
    )
    cli.ok("import", "chat.jsonl")
    cli.ok("work", "--drain")
    return cli


def memories(cli: Cli, *more: str) -> dict[str, dict[str, Any]]:
    return {item["content"]: item for item in cli.ok("memory", "list", "--user", 3, "--json", *more).json["items"]}


def the(found: dict[str, dict[str, Any]], word: str) -> dict[str, Any]:
    (item,) = [item for content, item in found.items() if word in content]
    return item


def injected(cli: Cli) -> str:
    recalled = cli.ok("recall", "--user", 3, "--what", "memories", "--json", "Where do I live? What may I not eat?")
    return " ".join(item["content"] for item in recalled.json["memories"]["items"])


def test_delete_and_restore(chat: Cli) -> None:
    peanuts = the(memories(chat), "peanuts")
    assert "peanuts" in injected(chat)
    chat.ok("memory", "delete", peanuts["id"], "--user", 3)
    assert "peanuts" not in injected(chat)
    assert not any("peanuts" in content for content in memories(chat))
    chat.ok("memory", "restore", peanuts["id"], "--user", 3)
    chat.ok("work", "--drain")
    assert "peanuts" in injected(chat)
    steps = [step["stage"] for step in chat.ok("lineage", peanuts["id"], "--user", 3, "--json").json]
    assert steps[0] == "message"
    assert steps.count("audit") == 3


def test_an_edit_names_the_version_it_saw(chat: Cli) -> None:
    city = the(memories(chat), "Oslo")
    edited = chat.ok(
        "memory",
        "edit",
        city["id"],
        "--user",
        3,
        "--version",
        city["version"],
        "--content",
        "I live in Bergen.",
        "--json",
    ).json
    assert (edited["content"], edited["version"]) == ("I live in Bergen.", city["version"] + 1)
    stale = chat(
        "memory", "edit", city["id"], "--user", 3, "--version", city["version"], "--content", "I live in Rome."
    )
    assert stale.status == 2
    assert f"version {city['version'] + 1}" in stale.err


def test_forget_empties_every_copy(chat: Cli, tmp_path: Path) -> None:
    peanuts = the(memories(chat), "peanuts")
    done = chat.ok("memory", "forget", peanuts["id"], "--user", 3, "--yes", "--json").json
    assert done["items"] == 1
    assert done["audit_rows"] >= 1
    assert done["vectors"] == 1
    chat.ok("work", "--drain")
    assert "peanuts" not in injected(chat)
    kept = tmp_path.joinpath("smartmem.vectors.db").read_bytes()
    assert b"allergic to peanuts" not in kept


def test_nobody_reaches_another_users_memory(chat: Cli) -> None:
    peanuts = the(memories(chat), "peanuts")
    for words in (["show"], ["delete"], ["restore"], ["forget", "--yes"], ["edit", "--version", "1", "--content", "x"]):
        ran = chat("memory", words[0], peanuts["id"], "--user", 4, *words[1:])
        assert ran.status == 2
        assert peanuts["id"] in ran.err
    assert "peanuts" in injected(chat)
    assert chat("lineage", peanuts["id"], "--user", 4).status == 2


def test_switched_off_is_neither_written_nor_read(chat: Cli) -> None:
    chat.ok("memory", "switches", "--user", 3, "--no-memory")
    assert injected(chat) == ""
    Path("more.jsonl").write_text(
        json.dumps(
            {
                "conversation_id": "c3",
                "user_id": 3,
                "client_message_id": "late",
                "role": "user",
                "content": "I play the cello.",
                "occurred_at": "2026-02-01T09:00:00Z",
            }
        )
        + "\n",
        "utf-8",
    )
    assert chat.ok("import", "more.jsonl", "--json").json["events"] == 0
    chat.ok("work", "--drain")
    chat.ok("memory", "switches", "--user", 3, "--memory")
    assert "peanuts" in injected(chat)
    assert not any("cello" in content for content in memories(chat))


def test_explain_names_a_reason_for_every_memory(chat: Cli) -> None:
    verdicts = chat.ok("explain", "--user", 3, "--json", "What may I not eat?").json["verdicts"]
    assert len(verdicts) == len(memories(chat))
    assert all(verdict["code"] for verdict in verdicts)
    assert any(v["code"] == "INJECTED" and "peanuts" in v["memory"]["content"] for v in verdicts)


def test_reconcile_finds_and_mends_a_lost_vector_file(chat: Cli, tmp_path: Path) -> None:
    for file in tmp_path.glob("smartmem.vectors.db*"):
        file.unlink()
    assert chat.ok("reconcile", "--dry-run", "--json").json["missing"] == 4
    assert chat.ok("reconcile", "--json").json["repaired"] == 4
    again = chat.ok("reconcile", "--json").json
    assert (again["missing"], again["repaired"]) == (0, 0)


def test_another_embedder_without_downtime(chat: Cli, tmp_path: Path) -> None:
    Path("same.toml").write_text('embedder = { name = "mock", dim = 32 }\n', "utf-8")
    refused = chat("reembed", "--to", "same.toml")
    assert (refused.status, "the store that is in use" in refused.err) == (2, True)
    new = 'embedder = { name = "mock", dim = 32 }\nstore = { name = "memory", path = "smartmem.vectors-2.db" }\n'
    Path("new.toml").write_text(new, "utf-8")
    assert chat.ok("reembed", "--to", "new.toml", "--json").json["embedded"] == 4
    assert chat.ok("reembed", "--to", "new.toml", "--json").json["embedded"] == 0
    assert "peanuts" in injected(chat)
    Path("new.toml").replace("smartmem.toml")
    assert "peanuts" in injected(chat)
    drift = chat.ok("reconcile", "--dry-run", "--json").json
    assert (drift["checked"], drift["missing"], drift["other_embedder"], drift["orphaned"]) == (4, 0, 0, 0)


def test_dedupe_shows_first_and_archives_when_told(chat: Cli) -> None:
    mock = '{ name = "mock" }'
    legacy = f'embedder = {mock}\nmemory = {{ write = {{ mode = "legacy" }} }}\nextract = {{ extractor = {mock} }}\n'
    Path("smartmem.toml").write_text(legacy, "utf-8")
    said = ["I live in Oslo, in a flat", "I live in a flat in Oslo", "I love jazz"]
    rows = [
        {
            "conversation_id": "c9",
            "user_id": 9,
            "role": "user",
            "content": text,
            "occurred_at": f"2026-02-0{n}T09:00:00Z",
        }
        for n, text in enumerate(said, 1)
    ]
    Path("more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    chat.ok("import", "more.jsonl")
    chat.ok("work", "--drain")
    (group,) = chat.ok("memory", "dedupe", "--user", 9, "--json").json
    assert (group["content"], len(group["drop"])) == ("user: I live in a flat in Oslo", 1)
    assert "--apply" in chat.ok("memory", "dedupe", "--user", 9).out
    assert len(chat.ok("memory", "list", "--user", 9, "--json").json["items"]) == 3
    chat.ok("memory", "dedupe", "--user", 9, "--apply")
    kept = chat.ok("memory", "list", "--user", 9, "--json").json["items"]
    assert sorted(item["content"] for item in kept) == ["user: I live in a flat in Oslo", "user: I love jazz"]
    assert "0 groups" in chat.ok("memory", "dedupe", "--user", 9).out
    refused = chat("memory", "dedupe", "--user", 9, "--keep", "oldest")
    assert refused.status != 0
    assert "oldest" in refused.err
