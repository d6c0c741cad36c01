"""Bad input: one line that names the thing, its value and the next step; no traceback; nothing half-written."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
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


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ("holds no message",)),
        (b"\xff\xfe\x00\x01" * 20, ("byte 0", "UTF-8")),
        (b"[" * 100_000, ("line 1", "nested too deep")),
        (b"[\n  {}\n]\n", ("line 1, column 2", "--format")),
        (b'{"user_id": ' + b"9" * 5000 + b"}", ("line 1", "digits")),
        (b'["x"]\n', ("line 1", "is a list, expected an object")),
    ],
    ids=["empty", "binary", "deep", "one-list", "huge-number", "no-object"],
)
def test_a_file_that_holds_something_else(folder: Path, cli: Cli, content: bytes, parts: tuple[str, ...]) -> None:
    (folder / "chat.jsonl").write_bytes(content)
    refused(cli("import", "chat.jsonl"), "chat.jsonl", *parts)
    assert messages(folder) == 0


@pytest.mark.parametrize(("content", "part"), [(b"", "is empty"), (b"[" * 100_000, "record 1: is nested too deep")])
def test_a_list_of_records_that_is_none(folder: Path, cli: Cli, content: bytes, part: str) -> None:
    (folder / "l.json").write_bytes(content)
    refused(cli("import", "l.json", "--format", "locomo"), "l.json", part)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"user_id": 10**30}, ("line 2, field user_id", "9223372036854775807")),
        ({"occurred_at": "9999-12-31T23:59:59-23:00"}, ("line 2, field occurred_at", "years 1 to 9999")),
        ({"conversation_id": "d" * 300}, ("191 characters",)),
    ],
)
def test_values_that_no_database_holds(
    folder: Path, cli: Cli, changes: dict[str, object], parts: tuple[str, ...]
) -> None:
    write(folder, talk(), talk(**{"conversation_id": "d"} | changes))
    refused(cli("import", "chat.jsonl"), "chat.jsonl", *parts)
    assert messages(folder) == 0


def test_a_conversation_of_another_user(folder: Path, cli: Cli) -> None:
    write(folder, talk())
    cli.ok("import", "chat.jsonl")
    write(folder, talk(user_id=4, client_message_id="2"), talk(user_id=4, conversation_id="new"))
    refused(cli("import", "chat.jsonl"), "1 of 2 refused", "c/2", "belongs to another user")
    assert messages(folder) == 2
    assert len(cli("import", "chat.jsonl", "--json").json["refused"]) == 1


def test_every_format_that_the_help_names_is_known(cli: Cli) -> None:
    from smartmem.chat.importers import FORMATS

    told = cli.ok("import", "--help").out
    assert all(name in told for name in FORMATS)
    assert "madial-" not in told


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


def test_a_database_of_another_program(folder: Path, cli: Cli) -> None:
    with sqlite3.connect(folder / "smartmem.db") as db:
        db.execute("CREATE TABLE chat_messages (id INTEGER)")
    db.close()
    write(folder, talk())
    refused(cli("import", "chat.jsonl"), "smartmem.db", "chat_messages", "name another database")
    assert messages(folder) == 0


def test_a_folder_that_is_not_there(folder: Path, cli: Cli) -> None:
    write(folder, talk())
    refused(cli("import", "chat.jsonl", "--database", "sqlite:///no/x.db"), "no/x.db", "must exist", status=3)


def test_a_full_disk(folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite itself says that the file may not grow; the batch in hand is rolled back and the rest stays usable."""
    from smartmem.db import connect

    write(folder, *(talk(client_message_id=str(n), content="word " * 2000) for n in range(100)))
    cli.ok("import", "chat.jsonl", "--database", "sqlite:///other.db")
    whole = connect._sqlite_connect

    def small(dbapi: sqlite3.Connection, entry: object) -> None:
        whole(dbapi, entry)  # type: ignore[arg-type]
        dbapi.execute("PRAGMA max_page_count=130")

    monkeypatch.setattr(connect, "_sqlite_connect", small)
    refused(cli("import", "chat.jsonl"), "disk is full", "make room", status=3)
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert messages(folder) == 0
    assert cli.ok("import", "chat.jsonl", "--json").json["added"] == 100


def test_folders_in_place_of_files(folder: Path, cli: Cli) -> None:
    (folder / "there").mkdir()
    refused(cli("import", "there"), "there", "is a folder")
    refused(cli("eval", "run", "there"), "there", "Is a directory")
    refused(cli("status", "--settings", "there"), "there", "Is a directory")
    refused(cli("import", "x", "--database", "sqlite:///there"), "sqlite:///there", "cannot be used", status=3)


def test_a_fault_of_ours_is_one_line_and_no_answer(folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from smartmem.workbench import Workbench

    write(folder, talk())
    cli.ok("import", "chat.jsonl")

    def broken(_: Workbench) -> None:
        raise AssertionError("two\nlines")

    monkeypatch.setattr(Workbench, "status", broken)
    refused(cli("status"), "AssertionError: two;", "--verbose", status=70)


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
    write(folder, talk())
    cli.ok("import", "chat.jsonl")
    (folder / "smartmem.toml").write_text(
        'embedder = { name = "mock" }\nstore = { name = "milvus", path = "vectors.milvus" }\n[jobs]\nmax_retry = 1\n',
        "utf-8",
    )
    holder = (
        "from smartmem.rag.registry import create; import sys\n"
        "s = create('store', {'name': 'milvus', 'path': 'vectors.milvus'}, dim=64); print('held', flush=True)\n"
        "sys.stdin.read(); s.close()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "held"
        refused(cli("work", "--drain"), "vectors.milvus", "in use", "the memories are written", status=3)
        # A vector store that is away keeps no fact from being written, and recall goes on without it.
        assert cli.ok("status", "--json").json["vectors"] == {"failed": 1}
        assert "Oslo" in cli.ok("recall", "--user", 3, "--what", "memories", "Where do I live?").out
        other.communicate("")
    assert cli.ok("work", "--drain", "--json").json["away"] == ""
    assert cli.ok("status", "--json").json["vectors"] == {"synced": 1}


def test_an_import_that_is_stopped_goes_on_where_it_was(folder: Path, cli: Cli) -> None:
    """Ctrl-C amid the batches: whole batches stand, each message with its event, and the next run adds the rest."""
    count = 2_000
    write(folder, *(talk(client_message_id=str(n), content=f"I live in house {n}.") for n in range(count)))
    # The signal comes from inside, behind the second batch, so that it is amid the batches on any machine.
    stopping = """
import os, signal
from smartmem.chat import history
from smartmem.cli.app import main
append, batches = history.append_messages, []
def stopped(*given, **named):
    done = append(*given, **named)
    batches.append(len(done))
    if len(batches) == 2:
        os.kill(os.getpid(), signal.SIGINT)
    return done
history.append_messages = stopped
# A test run in a shell's background has SIGINT ignored, and so have its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
    command = [sys.executable, "-c", stopping, "import", "chat.jsonl"]
    importing = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert importing.returncode == 130
    assert "the same command goes on" in importing.stderr
    assert "Traceback" not in importing.stderr
    kept = messages(folder)
    assert kept == 1_000
    with sqlite3.connect(folder / "smartmem.db") as db:
        assert db.execute("SELECT count(*) FROM outbox_messages").fetchone() == (kept,)
        assert db.execute("SELECT message_count FROM conversations").fetchone() == (kept,)
    db.close()
    again = cli.ok("import", "chat.jsonl", "--json").json
    assert (again["present"], again["added"], again["events"]) == (kept, count - kept, count - kept)


def test_unknown_command_and_option(folder: Path, cli: Cli) -> None:
    assert cli("remember").status == 2
    assert cli("status", "--colour").status == 2
