"""The tables, in one place. They come to be through the migrations only; a test compares both.

Two columns carry all scheduling, for the outbox and for jobs alike (docs/adr/0002-leases.md):

* `due_at`: when the row may next be claimed. Now for new, now + lease while claimed, now + back-off when failed,
  NULL when final. So a crashed worker's row is simply due again, with no rescuer scan.
* `order_key`: rows of one key are worked in the order of their ids. NULL when final, so that the ranges that a
  claim reads hold unfinished rows only, however long the history grows.

`dead_at` is set while a row is a dead letter: its index finds the few dead among millions of finished rows, and
costs less than an index on `status`, which changes three times in a row's life.

`next_retry_at` and `lease_expires_at` are `due_at` seen by status: generated columns, never written.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from smartmem.clock import UTC, as_utc

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

PLACE_CHARS = 96
_MYSQL = ("mysql", "mariadb")
# utf8mb4 or emoji fail; the binary collation makes keys and hashes compare as they do on SQLite.
_OPTIONS: dict[str, Any] = {
    f"{name}_{key}": value
    for name in _MYSQL
    for key, value in {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin"}.items()
}


class UtcDateTime(TypeDecorator[dt.datetime]):
    """Microseconds, stored as naive UTC, always aware in Python. A naive value is refused."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in _MYSQL:
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        return None if value is None else as_utc(value).replace(tzinfo=None)

    def process_result_value(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


def _ascii(length: int) -> TypeEngine[str]:
    """Ids, hashes and enum words: one byte a character, so that InnoDB's index pages hold four times as many."""
    plain: TypeEngine[str] = String(length)
    for name in _MYSQL:
        plain = plain.with_variant(mysql.VARCHAR(length, charset="ascii", collation="ascii_bin"), name)
    return plain


def _long_text() -> TypeEngine[str]:
    """Text without MySQL's 64 KB limit: a message may hold a megabyte."""
    plain: TypeEngine[str] = Text()
    for name in _MYSQL:
        plain = plain.with_variant(mysql.LONGTEXT(), name)
    return plain


def _serial() -> Column[int]:
    # SQLite makes only INTEGER PRIMARY KEY an alias of the row id. It gives the highest id that is there, and one more;
    # so that none is used twice, pruning leaves the newest row (AUTOINCREMENT would write one more page a commit).
    return Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)


def _lease_columns() -> list[Column[Any]]:
    """What db/leases.py needs of a table; see the module's docstring."""
    return [
        Column("status", _ascii(16), nullable=False),
        Column("retry_count", Integer, nullable=False),
        Column("max_retry", Integer, nullable=False),
        Column("due_at", UtcDateTime),
        Column("order_key", String(255)),
        # A token has 36 characters. On servers a waiting row has more in it, see hot.place; SQLite, which checks no
        # length, would have to copy its tables to change it.
        Column("lease_token", _ascii(PLACE_CHARS).with_variant(String(36), "sqlite")),
        Column("worker_id", String(128)),
        Column("dead_at", UtcDateTime),
        Column("next_retry_at", UtcDateTime, Computed("CASE WHEN status IN ('pending','failed') THEN due_at END")),
        Column("lease_expires_at", UtcDateTime, Computed("CASE WHEN status = 'processing' THEN due_at END")),
        # Characters, not bytes: errors quote user text, and a byte cut would split a character.
        Column("last_error", Text),
    ]


def _of_given(name: str, *columns: str, given: str = "", unique: bool = False) -> Index:
    """An index of the rows that have `given` (the first of its columns). MySQL and MariaDB keep all rows in it."""
    where = text(f"{given or columns[0]} IS NOT NULL")
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


conversations = Table(
    "conversations",
    metadata,
    Column("id", String(191), primary_key=True),
    Column("user_id", BigInteger, nullable=False),
    Column("assistant_id", String(191)),
    Column("title", String(255), nullable=False),
    Column("message_count", Integer, nullable=False),
    Column("last_message_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index(None, "user_id"),
    **_OPTIONS,
)

chat_messages = Table(
    "chat_messages",
    metadata,
    Column("id", _ascii(36), primary_key=True),
    Column("conversation_id", String(191), ForeignKey("conversations.id"), nullable=False),
    Column("user_id", BigInteger, nullable=False),
    # Position in the conversation, from 1, taken from its counter in the same transaction.
    Column("seq", Integer, nullable=False),
    Column("role", _ascii(16), nullable=False),
    # Who spoke, by name, where a conversation has several people (LoCoMo, group chats).
    Column("speaker", String(191)),
    Column("content", _long_text(), nullable=False),
    Column("occurred_at", UtcDateTime, nullable=False),
    Column("client_message_id", String(191)),
    Column("run_id", String(191)),
    Column("trace_id", _ascii(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # A user's messages are those of her conversations: no index by user.
    UniqueConstraint("conversation_id", "seq"),
    _of_given(
        "uq_chat_messages_conversation_id_client_message_id",
        "conversation_id",
        "client_message_id",
        given="client_message_id",
        unique=True,
    ),
    **_OPTIONS,
)

outbox_messages = Table(
    "outbox_messages",
    metadata,
    _serial(),
    Column("event_id", _ascii(36), nullable=False, unique=True),
    Column("event_type", _ascii(128), nullable=False),
    Column("event_version", SmallInteger, nullable=False),
    # Roles of Debezium's outbox event router: aggregate_type routes, message_key orders, event_id deduplicates.
    Column("aggregate_type", String(128), nullable=False),
    Column("aggregate_id", String(191), nullable=False),
    Column("message_key", String(255), nullable=False),
    Column("payload", _long_text(), nullable=False),
    Column("trace_id", _ascii(64), nullable=False),
    *_lease_columns(),
    Column("created_at", UtcDateTime, nullable=False),
    Column("consumed_at", UtcDateTime),
    # order_key makes the search for claimable rows read this index alone.
    _of_given("ix_outbox_messages_due", "due_at", "id", "order_key"),
    _of_given("ix_outbox_messages_order", "order_key", "id"),
    _of_given("ix_outbox_messages_dead", "dead_at"),
    **_OPTIONS,
)

memory_jobs = Table(
    "memory_jobs",
    metadata,
    _serial(),
    Column("user_id", BigInteger, nullable=False),
    Column("conversation_id", String(191)),
    Column("source_message_id", _ascii(64)),
    Column("source_event_id", _ascii(36)),
    Column("job_type", _ascii(16), nullable=False),
    Column("idempotency_key", _ascii(128), nullable=False, unique=True),
    Column("payload", _long_text(), nullable=False),
    Column("trace_id", _ascii(64), nullable=False),
    # The order_key for good: a replay takes it from here (the outbox has message_key).
    Column("job_key", String(255), nullable=False),
    *_lease_columns(),
    # facts | nothing | failed for extraction; `result` says more, as JSON (counts, fallback reason, cut).
    Column("outcome", _ascii(16)),
    Column("result", _long_text()),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("updated_at", UtcDateTime, nullable=False),
    _of_given("ix_memory_jobs_due", "due_at", "id", "order_key"),
    _of_given("ix_memory_jobs_order", "order_key", "id"),
    Index("ix_memory_jobs_user", "user_id", "id"),
    _of_given("ix_memory_jobs_dead", "dead_at"),
    **_OPTIONS,
)

memory_job_events = Table(
    "memory_job_events",
    metadata,
    _serial(),
    Column("job_id", BigInteger, nullable=False),
    Column("from_status", _ascii(16)),
    Column("to_status", _ascii(16), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("worker_id", String(128)),
    Column("reason", String(512)),
    Index(None, "job_id"),
    **_OPTIONS,
)

memory_items = Table(
    "memory_items",
    metadata,
    Column("id", _ascii(36), primary_key=True),
    # Replays of the same history with other components write into a namespace of their own.
    Column("namespace", _ascii(64), nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("assistant_id", String(191)),
    Column("conversation_id", String(191)),
    Column("run_id", String(191)),
    Column("memory_type", _ascii(16), nullable=False),
    Column("title", String(64), nullable=False),
    Column("content", Text, nullable=False),
    Column("content_hash", _ascii(64), nullable=False),
    # content_hash while active, else NULL: the unique key below makes duplicate active memories impossible.
    Column("active_hash", _ascii(64)),
    Column("slot", String(128)),
    Column("language", _ascii(8), nullable=False),
    Column("confidence", Float, nullable=False),
    Column("importance", Float, nullable=False),
    Column("sensitivity_level", SmallInteger, nullable=False),
    Column("is_explicit", Boolean, nullable=False),
    Column("status", _ascii(16), nullable=False),
    # Counts the changes; an edit names the version it saw, and each audit row the version it made.
    Column("version", Integer, nullable=False),
    Column("vector_status", _ascii(16), nullable=False),
    # Fingerprint of the embedder whose vector the store holds.
    Column("vector_fingerprint", _ascii(128)),
    Column("valid_from", UtcDateTime, nullable=False),
    Column("valid_to", UtcDateTime),
    Column("superseded_by", _ascii(36)),
    Column("ttl_at", UtcDateTime),
    Column("source_message_id", _ascii(64)),
    Column("source_event_id", _ascii(36)),
    Column("source_job_id", BigInteger),
    Column("trace_id", _ascii(64), nullable=False),
    Column("last_access_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    UniqueConstraint("user_id", "namespace", "active_hash"),
    Index("ix_memory_items_listing", "user_id", "namespace", "status", "memory_type", "valid_from"),
    Index("ix_memory_items_vector", "vector_status", "id"),
    _of_given("ix_memory_items_ttl", "ttl_at"),
    Index("ix_memory_items_source", "source_message_id"),
    **_OPTIONS,
)

memory_decisions = Table(
    "memory_decisions",
    metadata,
    _serial(),
    Column("job_id", BigInteger, nullable=False),
    Column("fact_index", SmallInteger, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("mode", _ascii(16), nullable=False),
    # ADD | UPDATE | DELETE | NONE, and the word for what was written where the mode is not `decision`.
    Column("operation", _ascii(16), nullable=False),
    Column("written", _ascii(16), nullable=False),
    Column("fact", _long_text(), nullable=False),
    Column("target_id", _ascii(36)),
    Column("memory_id", _ascii(36)),
    Column("comparisons", _long_text()),
    Column("reason", String(512)),
    Column("fallback_reason", String(512)),
    Column("trace_id", _ascii(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("job_id", "fact_index"),
    Index(None, "user_id", "id"),
    **_OPTIONS,
)

memory_audit_logs = Table(
    "memory_audit_logs",
    metadata,
    _serial(),
    Column("memory_id", _ascii(36), nullable=False),
    # The item's version after the change; unique with memory_id, so a change has exactly one row.
    Column("item_version", Integer, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("operation", _ascii(16), nullable=False),
    Column("operator", _ascii(16), nullable=False),
    Column("reason", String(512), nullable=False),
    Column("before", _long_text()),
    Column("after", _long_text()),
    Column("job_id", BigInteger),
    Column("trace_id", _ascii(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("memory_id", "item_version"),
    Index(None, "user_id", "id"),
    **_OPTIONS,
)

memory_user_settings = Table(
    "memory_user_settings",
    metadata,
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    Column("memory_enabled", Boolean, nullable=False),
    Column("implicit_memory_enabled", Boolean, nullable=False),
    Column("sensitive_memory_enabled", Boolean, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    **_OPTIONS,
)
