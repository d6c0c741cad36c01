"""The main job through the command line, on real conversations, on both databases; a second run adds nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.data import LOCOMO, needs_benchmarks

TOML = """
embedder = { name = "mock" }
chat_search = { chunker = "turn", retriever = "bm25" }
[extract]
extractor = { name = "mock" }
[memory.write]
mode = "legacy"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh folder to stand in, with fast components; the database is given by each test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SMARTMEM_DATABASE_URL", raising=False)
    (tmp_path / "smartmem.toml").write_text(TOML, "utf-8")
    return tmp_path


def chain(cli: Cli, *where: str) -> None:
    first = cli.ok("import", LOCOMO, "--format", "locomo", "--json", *where).json
    assert (first["read"], first["added"], first["present"], first["events"]) == (5882, 5882, 0, 5882)
    assert first["conversations"] == 10
    assert first["refused"] == []
    drained = cli.ok("work", "--drain", "--json", *where).json
    assert drained["events"] == 5882
    assert drained["failed"] == drained["dead"] == 0
    before = cli.ok("status", "--json", *where).json
    assert before["events"] == {"consumed": 5882}
    assert set(before["jobs"]) == {"success"}
    assert before["unfinished"] == 0
    assert before["vectors"] == {"synced": before["memories"]["active"]}
    # A turn is a memory, but for the few that one user says twice in the same words.
    assert 5882 - before["memories"]["active"] < 10

    again = cli.ok("import", LOCOMO, "--format", "locomo", "--json", *where).json
    assert (again["added"], again["present"], again["events"]) == (0, 5882, 0)
    assert cli.ok("work", "--drain", "--json", *where).json["success"] == 0
    assert cli.ok("status", "--json", *where).json == before

    found = cli.ok("recall", "--user", 1, "--json", "When did Caroline go to the support group?", *where).json
    assert any("LGBTQ support group yesterday" in hit["text"] for hit in found["turns"]["hits"])
    scores = [hit["score"] for hit in found["turns"]["hits"]]
    assert scores == sorted(scores, reverse=True)
    memories = found["memories"]["items"]
    assert memories
    assert all(item["source"]["conversation_id"] == "conv-26" for item in memories)
    # Another user's question never reaches the first user's words.
    other = cli.ok("recall", "--user", 2, "--json", "When did Caroline go to the support group?", *where).json
    texts = [hit["text"] for hit in other["turns"]["hits"]] + [item["content"] for item in other["memories"]["items"]]
    assert texts
    assert not any("LGBTQ" in text for text in texts)


@needs_benchmarks
def test_locomo_on_sqlite(folder: Path, cli: Cli) -> None:
    chain(cli)
    assert (folder / "smartmem.db").exists()


@needs_benchmarks
@pytest.mark.mariadb
def test_locomo_on_mariadb(folder: Path, cli: Cli, mariadb_url: str) -> None:
    chain(cli, "--database", mariadb_url)
    assert not (folder / "smartmem.db").exists()


def test_the_environment_names_the_database(folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMARTMEM_DATABASE_URL", f"sqlite:///{folder / 'other.db'}")
    (folder / "chat.jsonl").write_text(
        '{"conversation_id": "c", "user_id": 3, "role": "user", "content": "I live in Oslo.", '
        '"occurred_at": "2026-01-01T00:00:00Z"}\n',
        "utf-8",
    )
    cli.ok("import", "chat.jsonl")
    assert (folder / "other.db").exists()
    named = cli.ok("status", "--json", "--database", f"sqlite:///{folder / 'other.db'}").json
    assert named["messages"] == 1


def test_several_worker_processes_share_the_work(folder: Path, cli: Cli) -> None:
    cli.ok("import", Path(__file__).parents[2] / "data/tiny/dialogues.jsonl", "--format", "tiny")
    drained = cli.ok("work", "--drain", "--workers", 2, "--json").json
    state = cli.ok("status", "--json").json
    assert drained["dead"] == 0
    assert state["unfinished"] == 0
    assert set(state["jobs"]) == {"success"}
