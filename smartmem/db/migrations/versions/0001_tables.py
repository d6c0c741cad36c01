"""The first schema: conversations, outbox, jobs and their history, memory items, decisions, audit, user settings.

Written out, not taken from tables.py: a migration must keep meaning what it meant when it was written.
MySQL and MariaDB commit each DDL statement, so every step can be run again after a crash in the middle.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

OPTIONS: dict[str, Any] = {
    f"{name}_{key}": value
    for name in ("mysql", "mariadb")
    for key, value in {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin"}.items()
}


def on_mysql(plain: Any, other: Any) -> Any:
    return plain.with_variant(other, "mysql").with_variant(other, "mariadb")


def ascii_(length: int) -> Any:
    return on_mysql(sa.String(length), mysql.VARCHAR(length, charset="ascii", collation="ascii_bin"))


TIME = on_mysql(sa.DateTime(), mysql.DATETIME(fsp=6))
LONG = on_mysql(sa.Text(), mysql.LONGTEXT())
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def next_retry() -> sa.Computed:
    return sa.Computed("CASE WHEN status IN ('pending','failed') THEN due_at END")


def lease_expires() -> sa.Computed:
    return sa.Computed("CASE WHEN status = 'processing' THEN due_at END")


def index(name: str, table: str, columns: list[str]) -> None:
    if name not in {known["name"] for known in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, columns)


def upgrade() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", sa.String(191), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("assistant_id", sa.String(191)),
        sa.Column("title", sa.String(255), nullable=False),
        sa.Column("message_count", sa.Integer(), nullable=False),
        sa.Column("last_message_at", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_conversations"),
        if_not_exists=True,
        **OPTIONS,
    )
    index("ix_conversations_user_id", "conversations", ["user_id"])
    op.create_table(
        "memory_audit_logs",
        sa.Column("id", SERIAL, nullable=False, autoincrement=True),
        sa.Column("memory_id", ascii_(36), nullable=False),
        sa.Column("item_version", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("operation", ascii_(16), nullable=False),
        sa.Column("operator", ascii_(16), nullable=False),
        sa.Column("reason", sa.String(512), nullable=False),
        sa.Column("before", LONG),
        sa.Column("after", LONG),
        sa.Column("job_id", sa.BigInteger()),
        sa.Column("trace_id", ascii_(64), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_memory_audit_logs"),
        sa.UniqueConstraint("memory_id", "item_version", name="uq_memory_audit_logs_memory_id_item_version"),
        if_not_exists=True,
        **OPTIONS,
    )
    index("ix_memory_audit_logs_user_id_id", "memory_audit_logs", ["user_id", "id"])
    op.create_table(
        "memory_decisions",
        sa.Column("id", SERIAL, nullable=False, autoincrement=True),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("fact_index", sa.SmallInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("mode", ascii_(16), nullable=False),
        sa.Column("operation", ascii_(16), nullable=False),
        sa.Column("written", ascii_(16), nullable=False),
        sa.Column("fact", LONG, nullable=False),
        sa.Column("target_id", ascii_(36)),
        sa.Column("memory_id", ascii_(36)),
        sa.Column("comparisons", LONG),
        sa.Column("reason", sa.String(512)),
        sa.Column("fallback_reason", sa.String(512)),
        sa.Column("trace_id", ascii_(64), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_memory_decisions"),
        sa.UniqueConstraint("job_id", "fact_index", name="uq_memory_decisions_job_id_fact_index"),
        if_not_exists=True,
        **OPTIONS,
    )
    index("ix_memory_decisions_user_id_id", "memory_decisions", ["user_id", "id"])
    op.create_table(
        "memory_items",
        sa.Column("id", ascii_(36), nullable=False),
        sa.Column("namespace", ascii_(64), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("assistant_id", sa.String(191)),
        sa.Column("conversation_id", sa.String(191)),
        sa.Column("run_id", sa.String(191)),
        sa.Column("memory_type", ascii_(16), nullable=False),
        sa.Column("title", sa.String(64), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("content_hash", ascii_(64), nullable=False),
        sa.Column("active_hash", ascii_(64)),
        sa.Column("slot", sa.String(128)),
        sa.Column("language", ascii_(8), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("importance", sa.Float(), nullable=False),
        sa.Column("sensitivity_level", sa.SmallInteger(), nullable=False),
        sa.Column("is_explicit", sa.Boolean(), nullable=False),
        sa.Column("status", ascii_(16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("vector_status", ascii_(16), nullable=False),
        sa.Column("vector_fingerprint", ascii_(128)),
        sa.Column("valid_from", TIME, nullable=False),
        sa.Column("valid_to", TIME),
        sa.Column("superseded_by", ascii_(36)),
        sa.Column("ttl_at", TIME),
        sa.Column("source_message_id", ascii_(64)),
        sa.Column("source_event_id", ascii_(36)),
        sa.Column("source_job_id", sa.BigInteger()),
        sa.Column("trace_id", ascii_(64), nullable=False),
        sa.Column("last_access_at", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_memory_items"),
        sa.UniqueConstraint(
            "user_id", "namespace", "active_hash", name="uq_memory_items_user_id_namespace_active_hash"
        ),
        if_not_exists=True,
        **OPTIONS,
    )
    index("ix_memory_items_listing", "memory_items", ["user_id", "namespace", "status", "memory_type", "valid_from"])
    index("ix_memory_items_source", "memory_items", ["source_message_id"])
    index("ix_memory_items_ttl", "memory_items", ["ttl_at"])
    index("ix_memory_items_vector", "memory_items", ["vector_status", "id"])
    op.create_table(
        "memory_job_events",
        sa.Column("id", SERIAL, nullable=False, autoincrement=True),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("from_status", ascii_(16)),
        sa.Column("to_status", ascii_(16), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.String(128)),
        sa.Column("reason", sa.String(512)),
        sa.PrimaryKeyConstraint("id", name="pk_memory_job_events"),
        if_not_exists=True,
        **OPTIONS,
    )
    index("ix_memory_job_events_job_id", "memory_job_events", ["job_id"])
    op.create_table(
        "memory_jobs",
        sa.Column("id", SERIAL, nullable=False, autoincrement=True),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("conversation_id", sa.String(191)),
        sa.Column("source_message_id", ascii_(64)),
        sa.Column("source_event_id", ascii_(36)),
        sa.Column("job_type", ascii_(16), nullable=False),
        sa.Column("idempotency_key", ascii_(128), nullable=False),
        sa.Column("payload", LONG, nullable=False),
        sa.Column("trace_id", ascii_(64), nullable=False),
        sa.Column("job_key", sa.String(255), nullable=False),
        sa.Column("status", ascii_(16), nullable=False),
        sa.Column("retry_count", sa.Integer(), nullable=False),
        sa.Column("max_retry", sa.Integer(), nullable=False),
        sa.Column("due_at", TIME),
        sa.Column("order_key", sa.String(255)),
        sa.Column("lease_token", ascii_(36)),
        sa.Column("worker_id", sa.String(128)),
        sa.Column("dead_at", TIME),
        sa.Column("next_retry_at", TIME, next_retry()),
        sa.Column("lease_expires_at", TIME, lease_expires()),
        sa.Column("last_error", sa.Text()),
        sa.Column("outcome", ascii_(16)),
        sa.Column("result", LONG),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("started_at", TIME),
        sa.Column("finished_at", TIME),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_memory_jobs"),
        sa.UniqueConstraint("idempotency_key", name="uq_memory_jobs_idempotency_key"),
        if_not_exists=True,
        **OPTIONS,
    )
    index("ix_memory_jobs_dead", "memory_jobs", ["dead_at"])
    index("ix_memory_jobs_due", "memory_jobs", ["due_at", "id", "order_key"])
    index("ix_memory_jobs_order", "memory_jobs", ["order_key", "id"])
    index("ix_memory_jobs_user", "memory_jobs", ["user_id", "id"])
    op.create_table(
        "memory_user_settings",
        sa.Column("user_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("memory_enabled", sa.Boolean(), nullable=False),
        sa.Column("implicit_memory_enabled", sa.Boolean(), nullable=False),
        sa.Column("sensitive_memory_enabled", sa.Boolean(), nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_memory_user_settings"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_table(
        "outbox_messages",
        sa.Column("id", SERIAL, nullable=False, autoincrement=True),
        sa.Column("event_id", ascii_(36), nullable=False),
        sa.Column("event_type", ascii_(128), nullable=False),
        sa.Column("event_version", sa.SmallInteger(), nullable=False),
        sa.Column("aggregate_type", sa.String(128), nullable=False),
        sa.Column("aggregate_id", sa.String(191), nullable=False),
        sa.Column("message_key", sa.String(255), nullable=False),
        sa.Column("payload", LONG, nullable=False),
        sa.Column("trace_id", ascii_(64), nullable=False),
        sa.Column("status", ascii_(16), nullable=False),
        sa.Column("retry_count", sa.Integer(), nullable=False),
        sa.Column("max_retry", sa.Integer(), nullable=False),
        sa.Column("due_at", TIME),
        sa.Column("order_key", sa.String(255)),
        sa.Column("lease_token", ascii_(36)),
        sa.Column("worker_id", sa.String(128)),
        sa.Column("dead_at", TIME),
        sa.Column("next_retry_at", TIME, next_retry()),
        sa.Column("lease_expires_at", TIME, lease_expires()),
        sa.Column("last_error", sa.Text()),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("consumed_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_outbox_messages"),
        sa.UniqueConstraint("event_id", name="uq_outbox_messages_event_id"),
        if_not_exists=True,
        **OPTIONS,
    )
    index("ix_outbox_messages_dead", "outbox_messages", ["dead_at"])
    index("ix_outbox_messages_due", "outbox_messages", ["due_at", "id", "order_key"])
    index("ix_outbox_messages_order", "outbox_messages", ["order_key", "id"])
    op.create_table(
        "chat_messages",
        sa.Column("id", ascii_(36), nullable=False),
        sa.Column("conversation_id", sa.String(191), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("role", ascii_(16), nullable=False),
        sa.Column("speaker", sa.String(191)),
        sa.Column("content", LONG, nullable=False),
        sa.Column("occurred_at", TIME, nullable=False),
        sa.Column("client_message_id", sa.String(191)),
        sa.Column("run_id", sa.String(191)),
        sa.Column("trace_id", ascii_(64), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], name="fk_chat_messages_conversation_id"),
        sa.PrimaryKeyConstraint("id", name="pk_chat_messages"),
        sa.UniqueConstraint(
            "conversation_id", "client_message_id", name="uq_chat_messages_conversation_id_client_message_id"
        ),
        sa.UniqueConstraint("conversation_id", "seq", name="uq_chat_messages_conversation_id_seq"),
        if_not_exists=True,
        **OPTIONS,
    )
    index("ix_chat_messages_user_id_occurred_at", "chat_messages", ["user_id", "occurred_at"])
