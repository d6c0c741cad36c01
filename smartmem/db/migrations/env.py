"""Alembic's entry. Runs on the connection that db/schema.py hands in; there is no offline mode."""

from alembic import context
from sqlalchemy.engine import Connection

from smartmem.db.tables import metadata

conn: Connection = context.config.attributes["connection"]
# On SQLite DDL is transactional, and the caller's BEGIN IMMEDIATE holds the whole upgrade: all of it or nothing.
context.configure(
    connection=conn,
    target_metadata=metadata,
    transactional_ddl=conn.dialect.name == "sqlite",
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
