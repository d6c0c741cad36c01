"""What a user may do with her memories, on a real database."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from smartmem.db.engine import Database
from smartmem.db.tables import (
    chat_messages,
    memory_audit_logs,
    memory_decisions,
    memory_items,
    memory_jobs,
    outbox_messages,
)
from smartmem.errors import BadRecord, DataError, ScopeError
from smartmem.memory import govern
from smartmem.memory.apply import ItemChanged
from smartmem.memory.extract import create_extractor
from smartmem.memory.forget import forget
from smartmem.rag.types import Filter
from tests.support.memory import Chain
from tests.support.pipeline import START


@pytest.fixture
def chain(db: Database) -> Chain:
    chain = Chain(db)
    chain.hear("I live in Leeds.", "I love jazz.", "I'm allergic to peanuts.")
    return chain


def test_lists_filter_and_page(chain: Chain) -> None:
    db = chain.db
    page = govern.list_memories(db, 1, limit=2)
    assert ([i.content for i in page.items], page.total) == (["I'm allergic to peanuts", "I love jazz"], 3)
    assert page.next_offset == 2
    rest = govern.list_memories(db, 1, limit=2, offset=2)
    assert ([i.content for i in rest.items], rest.next_offset) == (["I live in Leeds"], None)
    assert [i.content for i in govern.list_memories(db, 1, memory_types=["preference"]).items] == ["I love jazz"]
    assert [i.content for i in govern.list_memories(db, 1, text="LEEDS").items] == ["I live in Leeds"]
    assert govern.list_memories(db, 2).total == 0
    with pytest.raises(ScopeError):
        govern.list_memories(db, 0)


def test_an_edit_names_the_version_that_it_saw(chain: Chain) -> None:
    item = govern.list_memories(chain.db, 1, text="leeds").items[0]
    edited = govern.edit_memory(chain.db, 1, item.id, version=1, content="I live in York")
    assert (edited.version, edited.content, edited.title, edited.slot) == (
        2,
        "I live in York",
        "I live in York",
        "city",
    )
    with pytest.raises(ItemChanged, match="version 2, not 1"):
        govern.edit_memory(chain.db, 1, item.id, version=1, content="I live in Cork")
    chain.sync()
    assert chain.store.get([item.id])[0].text == "I live in York"
    row = chain.rows(memory_audit_logs)[-1]
    assert (row.operation, row.operator, row.item_version) == ("update", "user", 2)
    assert json.loads(row.before)["content"] == "I live in Leeds"
    assert json.loads(row.after)["content"] == "I live in York"


def test_edits_that_cannot_stand_change_nothing(chain: Chain) -> None:
    item = govern.list_memories(chain.db, 1, text="leeds").items[0]
    for values, message in (
        ({"content": "  "}, "BLANK"),
        ({"memory_type": "rumour"}, "UNKNOWN_TYPE"),
        ({"importance": 7.0}, "IMPORTANCE_INVALID"),
        ({"ttl_at": START - dt.timedelta(days=1)}, "TTL_IN_PAST"),
    ):
        with pytest.raises(BadRecord, match=message):
            govern.edit_memory(chain.db, 1, item.id, version=1, **values)  # type: ignore[arg-type]
    jazz = govern.list_memories(chain.db, 1, text="jazz").items[0]
    with pytest.raises(DataError, match="already says the same"):
        govern.edit_memory(chain.db, 1, item.id, version=1, content=jazz.content, memory_type="preference")
    assert govern.get_memory(chain.db, 1, item.id) == item


def test_deleted_is_out_of_sight_at_once_and_can_be_restored(chain: Chain) -> None:
    item = govern.list_memories(chain.db, 1, text="leeds").items[0]
    assert govern.delete_memory(chain.db, 1, item.id).status == "deleted"
    assert govern.delete_memory(chain.db, 1, item.id).version == 2  # twice is no error and no change
    for mode in ("legacy", "rag", "hybrid"):
        assert "Leeds" not in str(chain.recaller.recall(1, "I live in Leeds", mode=mode, min_score=0).items)  # type: ignore[arg-type]
    chain.sync()
    assert chain.store.get([item.id]) == []
    assert govern.restore_memory(chain.db, 1, item.id).status == "active"
    chain.sync()
    assert len(chain.store.get([item.id])) == 1
    assert [r.operation for r in chain.rows(memory_audit_logs) if r.memory_id == item.id] == [
        "create",
        "delete",
        "restore",
    ]


def test_restoring_a_double_is_refused(chain: Chain) -> None:
    item = govern.list_memories(chain.db, 1, text="leeds").items[0]
    govern.delete_memory(chain.db, 1, item.id)
    chain.hear("I live in Leeds.")
    with pytest.raises(DataError, match="already says the same"):
        govern.restore_memory(chain.db, 1, item.id)


def test_others_memories_do_not_exist(chain: Chain) -> None:
    item = govern.list_memories(chain.db, 1).items[0]
    for call in (govern.get_memory, govern.delete_memory, govern.restore_memory, forget):
        with pytest.raises(govern.NoSuchMemory):
            call(chain.db, 2, item.id)


@pytest.mark.parametrize("mode", ["decision", "legacy"])
def test_forget_leaves_the_words_nowhere_but_in_the_users_own_messages(db: Database, mode: str) -> None:
    chain = Chain(db, mode)
    chain.hear("I live in Leeds.", "I love jazz.", "By the way, I live in Leeds.")
    item = govern.list_memories(db, 1, text="leeds").items[0]
    told = forget(db, 1, item.id, store=chain.store)
    assert (told.items, told.audit_rows, told.jobs, told.events, told.vectors) == (1, 1, 2, 2, 1)
    assert told.decisions == (2 if mode == "decision" else 0)
    assert len(told.messages_kept) == 2
    for table in (memory_items, memory_audit_logs, memory_decisions, memory_jobs, outbox_messages):
        assert "leeds" not in str(chain.rows(table)).lower(), table.name
        if table is not outbox_messages and (table is not memory_decisions or mode == "decision"):
            assert "jazz" in str(chain.rows(table)), table.name
    assert "Leeds" in str(chain.rows(chat_messages))
    assert [c.text for batch in chain.store.iterate(Filter()) for c in batch] == ["I love jazz"]
    last = chain.rows(memory_audit_logs)[-1]
    assert (last.operation, last.operator, last.reason) == ("delete", "user", "forget: asked to forget")
    chain.run()
    assert chain.active() == ["I love jazz"]


def test_an_emptied_job_that_is_worked_later_makes_nothing(db: Database) -> None:
    chain = Chain(db, "legacy", extractor=create_extractor("mock"))
    chain.hear("I live in Leeds.")
    chain.say("I live in Leeds. And more.")
    from smartmem.outbox.relay import Relay
    from smartmem.settings import OutboxSettings

    Relay(db, chain.registry, OutboxSettings()).drain()
    forget(db, 1, chain.items()[0].id, store=chain.store)
    chain.run()
    assert chain.items() == []
    assert json.loads(chain.extract_jobs()[-1].result)["reason"] == "FORGOTTEN"


def test_settings_have_defaults_and_stay(db: Database) -> None:
    first = govern.get_settings(db, 7)
    assert (first.memory_enabled, first.implicit_memory_enabled, first.sensitive_memory_enabled) == (True, True, False)
    govern.set_settings(db, 7, sensitive_memory_enabled=True)
    second = govern.set_settings(db, 7, implicit_memory_enabled=False)
    assert second == govern.get_settings(db, 7)
    assert (second.implicit_memory_enabled, second.sensitive_memory_enabled) == (False, True)
    with pytest.raises(ScopeError):
        govern.set_settings(db, 0, memory_enabled=False)


def test_dedupe_shows_first_and_then_merges(db: Database) -> None:
    chain = Chain(db, "legacy", extractor=create_extractor("mock"))
    for text in ("I live in Leeds, in a flat", "I live in a flat in Leeds", "I love jazz"):
        chain.hear(text)
    (found,) = govern.dedupe(db, 1)
    assert (found.content, len(found.drop), len(chain.active())) == ("I live in a flat in Leeds", 1, 3)
    govern.dedupe(db, 1, dry_run=False)
    assert chain.active() == ["I live in a flat in Leeds", "I love jazz"]
    assert chain.rows(memory_audit_logs)[-1].operation == "merge"
    assert govern.dedupe(db, 1) == ()
    with pytest.raises(BadRecord, match="oldest"):
        govern.dedupe(db, 1, keep="oldest")
