"""Fewer index pages a message: a user's messages are found by her conversations, and on SQLite and PostgreSQL two more
indexes leave out what is NULL.

A random place in an index is a page of its own to write, for each message that is committed. MySQL and MariaDB have no
partial indexes; there only the first index goes. Elsewhere than on SQLite lease_token gets room for what holds a row's
place (db/hot.py).
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MYSQL = ("mysql", "mariadb")
TOKEN = sa.String(96).with_variant(mysql.VARCHAR(96, charset="ascii", collation="ascii_bin"), *MYSQL)
CLIENT = "uq_chat_messages_conversation_id_client_message_id"


def upgrade() -> None:
    there = sa.inspect(op.get_bind())
    if "ix_chat_messages_user_id_occurred_at" in {known["name"] for known in there.get_indexes("chat_messages")}:
        op.drop_index("ix_chat_messages_user_id_occurred_at", "chat_messages")
    dialect = op.get_bind().dialect.name
    if dialect != "sqlite":
        for table_name in ("outbox_messages", "memory_jobs"):
            op.alter_column(table_name, "lease_token", type_=TOKEN, existing_type=sa.String(36), existing_nullable=True)
    if dialect in MYSQL:
        return
    if CLIENT in {known["name"] for known in there.get_unique_constraints("chat_messages")}:
        # SQLite drops no constraint of a table: Alembic copies the table.
        with op.batch_alter_table("chat_messages") as table:
            table.drop_constraint(CLIENT, type_="unique")
    for name, table_name, columns, unique in (
        (CLIENT, "chat_messages", ["conversation_id", "client_message_id"], True),
        ("ix_memory_items_ttl", "memory_items", ["ttl_at"], False),
    ):
        given = sa.text(f"{columns[-1]} IS NOT NULL")
        op.drop_index(name, table_name, if_exists=True)
        op.create_index(name, table_name, columns, unique=unique, sqlite_where=given, postgresql_where=given)


def downgrade() -> None:
    raise NotImplementedError("restore the back-up that was made before the upgrade")
