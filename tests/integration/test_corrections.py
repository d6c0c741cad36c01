"""The quality rates that a running system knows: what users take back or put right."""

from __future__ import annotations

from sqlalchemy import update

from smartmem.db.engine import Database
from smartmem.db.tables import memory_items
from smartmem.memory import govern
from smartmem.memory.corrections import Corrections, corrections
from tests.support.memory import Chain
from tests.support.pipeline import START


def test_nothing_is_claimed_of_nothing(db: Database) -> None:
    found = corrections(db)
    assert (found.correction_rate, found.wrong_mention_rate) == (None, None)


def test_edits_and_deletions_by_users_are_corrections(db: Database) -> None:
    Chain(db).hear("I live in Leeds.", "I love jazz.", "I'm allergic to peanuts.", "I work as a nurse.")
    items = {item.content: item for item in govern.list_memories(db, 1).items}
    assert corrections(db).correction_rate == 0
    assert corrections(db).wrong_mention_rate is None  # nobody was told anything yet
    leeds, jazz = items["I live in Leeds"], items["I love jazz"]
    with db.begin() as conn:
        mentioned = [leeds.id, items["I'm allergic to peanuts"].id]
        conn.execute(update(memory_items).where(memory_items.c.id.in_(mentioned)).values(last_access_at=START))
    govern.edit_memory(db, 1, leeds.id, version=1, content="I live in York")
    govern.edit_memory(db, 1, leeds.id, version=2, content="I live in Cork")
    govern.delete_memory(db, 1, jazz.id)
    govern.restore_memory(db, 1, jazz.id)
    assert corrections(db) == Corrections(memories=len(items), corrected=2, mentioned=2, mentioned_corrected=1)
    assert corrections(db).correction_rate == 2 / len(items)
    assert corrections(db).wrong_mention_rate == 0.5


def test_what_the_system_changes_is_no_correction_and_old_changes_fade(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I live in Leeds.")
    govern.delete_memory(db, 1, govern.list_memories(db, 1).items[0].id)
    chain.hear("I live in York.", "I live in Cork.")  # the second is an update by the system
    assert corrections(db).corrected == 1
    assert corrections(db, recent=1).corrected == 0
