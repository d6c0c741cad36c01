"""Bad input: one line that names the thing, its value and the next step; no traceback; nothing half-written."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.support.cli import Cli, Ran
from tests.support.net import free_port


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SMARTMEM_DATABASE_URL", raising=False)
    (tmp_path / "smartmem.toml").write_text('embedder = { name = "mock" }\n', "utf-8")
    return tmp_path


def refused(ran: Ran, *parts: str, status: int = 2) -> None:
    assert ran.status == status, (ran.status, ran.err)
    assert ran.err.startswith("smartmem: error: ")
    assert ran.err.count("\n") == 1
    assert "Traceback" not in ran.out + ran.err
    for part in parts:
        assert part in ran.err


def messages(folder: Path) -> int:
    with sqlite3.connect(folder / "smartmem.db") as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        count = db.execute("SELECT count(*) FROM chat_messages").fetchone()[0] if "chat_messages" in tables else 0
    db.close()
    return int(count)


def write(folder: Path, *records: object) -> Path:
    file = folder / "chat.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return file


def talk(**changes: object) -> dict[str, object]:
    said = {"role": "user", "content": "I live in Oslo.", "occurred_at": "2026-01-01T00:00:00Z"}
    return {"conversation_id": "c", "user_id": 3, "client_message_id": "1"} | said | changes


def test_missing_file(folder: Path, cli: Cli) -> None:
    refused(cli("import", "nowhere.jsonl"), "nowhere.jsonl", "no such file")
    assert messages(folder) == 0


def test_unknown_format(folder: Path, cli: Cli) -> None:
    write(folder, talk())
    refused(cli("import", "chat.jsonl", "--format", "slack"), "'slack'", "jsonl", "locomo")


def test_truncated_json(folder: Path, cli: Cli) -> None:
    file = write(folder, talk(), talk(conversation_id="d"))
    file.write_text(file.read_text("utf-8")[:-30], "utf-8")
    refused(cli("import", "chat.jsonl"), "chat.jsonl", "2")
    assert messages(folder) == 0


def test_turn_without_a_speaker(folder: Path, cli: Cli) -> None:
    (folder / "l.json").write_text(
        json.dumps(
            [
                {
                    "sample_id": "s",
                    "qa": [],
                    "conversation": {
                        "speaker_a": "A",
                        "speaker_b": "B",
                        "session_1_date_time": "1:56 pm on 8 May, 2023",
                        "session_1": [{"dia_id": "D1:1", "text": "Hi!"}],
                    },
                }
            ]
        ),
        "utf-8",
    )
    refused(cli("import", "l.json", "--format", "locomo"), "l.json", "session_1[0].speaker", "missing")
    assert messages(folder) == 0


def test_user_id_zero(folder: Path, cli: Cli) -> None:
    write(folder, talk(), talk(conversation_id="d", user_id=0))
    refused(cli("import", "chat.jsonl"), "chat.jsonl", "user_id", "0")
    assert messages(folder) == 0
    write(folder, talk())
    cli.ok("import", "chat.jsonl")
    refused(cli("recall", "--user", "0", "anything"), "user_id = 0")


def test_database_that_is_down(folder: Path, cli: Cli) -> None:
    url = f"mysql+pymysql://me:s3cret@127.0.0.1:{free_port()}/chat"
    ran = cli("status", "--database", url)
    refused(ran, "127.0.0.1", "start the server", status=3)
    assert "s3cret" not in ran.err


def test_no_database_yet(folder: Path, cli: Cli) -> None:
    refused(cli("status"), "smartmem.db", "smartmem import", status=3)
    assert not (folder / "smartmem.db").exists()


def test_not_a_database(folder: Path, cli: Cli) -> None:
    (folder / "smartmem.db").write_text("this is a letter, not a database; " * 40, "utf-8")
    ran = cli("status")
    assert ran.status == 3
    assert ran.err.startswith("smartmem: error: ")
    assert "smartmem.db" in ran.err


@pytest.mark.parametrize(
    ("toml", "parts"),
    [
        ('embedder = { name = "word2vec" }\n', ("'word2vec'", "mock", "onnx")),
        ('embedder = { name = "mock", dims = 3 }\n', ("'dims'", "dim")),
        ('[extract]\nextractor = { name = "gpt" }\n', ("'gpt'", "rules", "mock")),
        ("[jobs]\nmax_retry = 0\n", ("jobs.max_retry", "0")),
        ("[jobs]\nretries = 3\n", ("jobs.retries",)),
        ("jobs = [\n", ("smartmem.toml", "TOML")),
    ],
)
def test_bad_settings(folder: Path, cli: Cli, toml: str, parts: tuple[str, ...]) -> None:
    write(folder, talk())
    cli.ok("import", "chat.jsonl")
    (folder / "smartmem.toml").write_text(toml, "utf-8")
    refused(cli("work", "--drain"), *parts)


def test_missing_extra(folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, talk())
    cli.ok("import", "chat.jsonl")
    monkeypatch.setitem(__import__("sys").modules, "pymilvus", None)
    (folder / "smartmem.toml").write_text('embedder = { name = "mock" }\nstore = { name = "milvus" }\n', "utf-8")
    refused(cli("work", "--drain"), "pip install 'smartmem[milvus]'")


def test_store_path_in_use(folder: Path, cli: Cli) -> None:
    from smartmem.rag.registry import create

    write(folder, talk())
    cli.ok("import", "chat.jsonl")
    (folder / "smartmem.toml").write_text(
        'embedder = { name = "mock" }\nstore = { name = "milvus", path = "vectors.milvus" }\n', "utf-8"
    )
    import subprocess
    import sys

    holder = (
        "from smartmem.rag.registry import create; import sys\n"
        "s = create('store', {'name': 'milvus', 'path': 'vectors.milvus'}, dim=256); print('held', flush=True)\n"
        "sys.stdin.read(); s.close()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "held"
        refused(cli("work", "--drain"), "vectors.milvus", "in use", status=3)
        other.communicate("")
    store = create("store", {"name": "milvus", "path": "vectors.milvus"}, dim=256)  # free again, and empty
    store.close()


def test_unknown_command_and_option(folder: Path, cli: Cli) -> None:
    assert cli("remember").status == 2
    assert cli("status", "--colour").status == 2
