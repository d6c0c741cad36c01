"""The same history through another extractor, beside the main memories and never among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import delete

from smartmem.db.engine import Database
from smartmem.db.tables import memory_audit_logs, memory_jobs
from smartmem.errors import ConfigError, UnknownComponent
from smartmem.memory import govern
from smartmem.memory.forget import forget
from smartmem.memory.replay import diff, replay
from tests.support.cli import Cli
from tests.support.memory import Chain


def test_a_replay_and_its_difference(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I live in Leeds.", "What time is it?", "I love jazz")
    chain.say("I live in Cork.", user_id=2)
    chain.run()
    before = govern.list_memories(db, 1)
    assert replay(db, "mock-1", extractor="mock", write_mode="legacy", user_id=1) == 3
    assert replay(db, "mock-1", extractor="mock", write_mode="legacy", user_id=1) == 0
    chain.run()
    assert govern.list_memories(db, 1) == before
    (difference,) = diff(db, "main", "mock-1", user_id=1)
    assert difference.reworded == (("I live in Leeds", "I live in Leeds."), ("I love jazz", "I love jazz"))
    assert (difference.only_a, difference.only_b) == ((), ("What time is it?",))
    assert [d.user_id for d in diff(db, "main", "mock-1")] == [1, 2]


def test_replays_that_cannot_be(db: Database) -> None:
    for name in ("main", "", "Über", "a b"):
        with pytest.raises(ConfigError, match="name of its own"):
            replay(db, name)
    with pytest.raises(UnknownComponent):
        replay(db, "try", extractor="gpt")


def test_what_was_forgotten_is_not_brought_back_by_a_replay(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I live in Leeds.", "I love jazz")
    leeds, _ = chain.items()
    forget(db, 1, leeds.id, store=chain.store)
    assert replay(db, "after", extractor="mock", write_mode="legacy") == 1
    chain.run()
    assert [item.content for item in chain.items(namespace="after")] == ["I love jazz"]


def test_nor_after_its_jobs_were_pruned(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I live in Leeds.", "I love jazz")
    leeds, _ = chain.items()
    forget(db, 1, leeds.id, store=chain.store)
    db.run(lambda conn: conn.execute(delete(memory_jobs)))
    assert replay(db, "after", extractor="mock", write_mode="legacy") == 1
    assert not [row for row in chain.rows(memory_audit_logs) if "Leeds" in f"{row.before}{row.after}"]


def test_forgetting_takes_every_copy_of_the_same_words(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I live in Leeds.")
    (first,) = chain.items()
    govern.delete_memory(db, 1, first.id)
    chain.hear("I live in Leeds.", day=1)
    replay(db, "copy", extractor="rules", user_id=1)
    chain.run()
    (again,) = chain.items(namespace="main", status="active")
    copies = {item.id for item in chain.items()}
    assert len(copies) == 3
    assert forget(db, 1, again.id, store=chain.store).items == 3
    chain.run()
    assert chain.items() == []
    assert chain.store.get(sorted(copies)) == []


SAID = [("I live in Leeds.", "2026-01-05"), ("I've moved to Bristol.", "2026-03-05")]


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> Cli:
    """A database in an empty folder: one user who moved from Leeds to Bristol."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SMARTMEM_DATABASE_URL", raising=False)
    Path("smartmem.toml").write_text('embedder = { name = "mock" }\n', "utf-8")
    lines = [
        {
            "conversation_id": "c1",
            "user_id": 1,
            "client_message_id": str(n),
            "role": "user",
            "content": text,
            "occurred_at": f"{day}T09:00:00Z",
        }
        for n, (text, day) in enumerate(SAID)
    ]
    Path("chat.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    cli.ok("import", "chat.jsonl")
    cli.ok("work", "--drain")
    return cli


def test_replay_and_diff_on_the_command_line(chat: Cli) -> None:
    assert chat.ok("replay", "--extractor", "mock", "--mode", "legacy", "--into", "try", "--json").json["jobs"] == 2
    assert "nothing is active in 'try'" in chat.ok("diff", "main", "try").out
    chat.ok("work", "--drain")
    told = chat.ok("diff", "main", "try")
    assert "I live in Leeds." in told.out
    assert "only in try" in told.out
    (found,) = chat.ok("diff", "main", "try", "--user", 1, "--json").json
    assert found["only_b"] == ["user: I live in Leeds."]  # the mock keeps the message as it is
    assert found["reworded"] == [["I've moved to Bristol", "user: I've moved to Bristol."]]
    refused = chat("replay", "--into", "main")
    assert (refused.status, "name of its own" in refused.err) == (2, True)
    assert chat("replay", "--extractor", "gpt", "--into", "try2").status == 2


def test_what_held_on_a_date(chat: Cli) -> None:
    def recalled(*more: object) -> list[str]:
        found = chat.ok("recall", "--user", 1, "--what", "memories", "--json", "Where do I live?", *more).json
        return [item["content"] for item in found["memories"]["items"]]

    def listed(*more: object) -> list[str]:
        return [i["content"] for i in chat.ok("memory", "list", "--user", 1, "--json", *more).json["items"]]

    assert (recalled(), listed()) == (["I've moved to Bristol"], ["I've moved to Bristol"])
    assert recalled("--as-of", "2026-02-01") == listed("--as-of", "2026-02-01") == ["I live in Leeds"]
    assert recalled("--as-of", "2026-03-05") == ["I've moved to Bristol"]  # a date alone is the end of that day
    assert recalled("--as-of", "2026-03-05T08:00:00Z") == ["I live in Leeds"]
    assert listed("--as-of", "2025-12-31") == []
    refused = chat("recall", "--user", 1, "Where?", "--as-of", "soon")
    assert (refused.status, "'soon'" in refused.err) == (2, True)
