"""On SQLite and PostgreSQL the indexes of leased tables hold open rows only: a finished row has no entry in them.

MySQL and MariaDB have no partial indexes; there nothing changes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INDEXES = {"due": ["due_at", "id", "order_key"], "order": ["order_key", "id"], "dead": ["dead_at"]}


def upgrade() -> None:
    if op.get_bind().dialect.name in ("mysql", "mariadb"):
        return
    for table in ("outbox_messages", "memory_jobs"):
        for name, columns in INDEXES.items():
            given = sa.text(f"{columns[0]} IS NOT NULL")
            op.drop_index(f"ix_{table}_{name}", table, if_exists=True)
            op.create_index(f"ix_{table}_{name}", table, columns, sqlite_where=given, postgresql_where=given)


def downgrade() -> None:
    raise NotImplementedError("restore the back-up that was made before the upgrade")
