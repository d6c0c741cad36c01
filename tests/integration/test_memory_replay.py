"""The same history through another extractor, beside the main memories and never among them."""

from __future__ import annotations

import pytest

from smartmem.db.engine import Database
from smartmem.errors import ConfigError, UnknownComponent
from smartmem.memory import govern
from smartmem.memory.replay import diff, replay
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
