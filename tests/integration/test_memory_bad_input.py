"""Input that is far too long is cut before anything slow looks at it."""

from __future__ import annotations

from smartmem.db.engine import Database
from smartmem.memory import govern
from smartmem.memory.recall import QUERY_CHARS
from tests.support.memory import Chain

MEGABYTE = 1_000_000


def test_an_edit_of_a_megabyte_keeps_what_a_memory_may_hold(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I live in Leeds.")
    (item,) = chain.items()
    edited = govern.edit_memory(db, 1, item.id, version=1, content="I am allergic to nuts. " + "y" * MEGABYTE)
    assert edited.content.startswith("I am allergic to nuts. yyy")
    assert (len(edited.content), edited.version) == (1000, 2)


def test_a_question_of_a_megabyte_is_asked_by_its_beginning(db: Database) -> None:
    chain = Chain(db)
    chain.hear("I live in Leeds.")
    found = chain.recaller.recall(1, "Where do I live? " + "q" * MEGABYTE)
    assert len(found.query) == QUERY_CHARS
    assert [item.content for item in found.items] == ["I live in Leeds"]
