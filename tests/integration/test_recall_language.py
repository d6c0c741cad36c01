"""An embedder that does not know a language is not asked about it; the words rank instead, and the answer says so."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

import smartmem
from smartmem.db.tables import memory_decisions
from smartmem.rag.embed import MockEmbedder


def test_vectors_of_an_unknown_language_do_not_rank(tmp_path: Path) -> None:
    with smartmem.open(f"sqlite:///{tmp_path / 'c.db'}", embedder={"name": "mock"}) as wb:
        for text in ("我住在杭州。", "我对花生过敏。", "我养了一只三花猫，叫豆包。"):
            wb.append(user_id=1, conversation_id="c", role="user", content=text)
        wb.drain()
        assert isinstance(wb.embedder, MockEmbedder)
        wb.embedder.languages = ("en",)
        found = wb.recall(1, "我的猫叫什么？")
        assert found.fallback_reason is not None
        assert found.fallback_reason.startswith("LANGUAGE: the embedder knows en, the query is zh")
        assert max(found.items, key=lambda item: item.parts["relevance"]).content.startswith("我养了一只三花猫")
        assert wb.recall(1, "What is my cat called?").fallback_reason is None


def test_vectors_of_another_embedder_are_noticed_and_mended(tmp_path: Path) -> None:
    with smartmem.open(f"sqlite:///{tmp_path / 'c.db'}", embedder={"name": "mock"}) as wb:
        for text in ("I live in Leeds.", "I love jazz."):
            wb.append(user_id=1, conversation_id="c", role="user", content=text)
        wb.drain()
        assert isinstance(wb.embedder, MockEmbedder)
        old, wb.embedder.fingerprint = wb.embedder.fingerprint, "another:of-the-same-size"
        wb.append(user_id=1, conversation_id="c", role="user", content="I work as a nurse.")
        wb.drain()  # now the store holds vectors of both
        with wb.db.read() as conn:  # and the third was compared with what words alone had found
            *before, last = conn.scalars(select(memory_decisions.c.fallback_reason).order_by(memory_decisions.c.id))
        assert (before, str(last).partition(":")[0]) == ([None, None], "OTHER_EMBEDDER")
        found = wb.recall(1, "Where do I live?")
        assert found.fallback_reason is not None
        assert found.fallback_reason.startswith(f"OTHER_EMBEDDER: the vector store was filled by {old}")
        assert wb.reconcile().other_embedder == 2
        assert wb.recall(1, "Where do I live?").fallback_reason is None
        assert wb.reconcile().clean
