"""What users say stays out of logs and error texts."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

import smartmem
from smartmem.db.engine import Database
from smartmem.db.tables import conversations

SECRET = "my card number is 4111 1111 1111 1111"


def test_a_failing_statement_does_not_quote_its_parameters(tmp_path: Path) -> None:
    db = Database.open(f"sqlite:///{tmp_path / 'p.db'}")
    db.migrate()
    with pytest.raises(IntegrityError) as caught, db.begin() as conn:
        conn.execute(insert(conversations).values(id="c", title=SECRET))  # user_id and more are missing
    assert SECRET not in str(caught.value)
    db.close()


def test_message_texts_are_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO),
        smartmem.open(f"sqlite:///{tmp_path / 'p.db'}", embedder={"name": "mock"}) as wb,
    ):
        for n, text in enumerate((SECRET, "I am allergic to peanuts.", "Remember that " + SECRET)):
            wb.append(user_id=1, conversation_id="c", role="user", content=text, client_message_id=str(n))
        wb.drain()
        wb.recall(1, "What is my card number?")
    assert "4111" not in caplog.text
    assert "peanuts" not in caplog.text
