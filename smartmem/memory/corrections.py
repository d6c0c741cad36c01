"""How often users correct what the system remembered: the quality rates that a running system can know by itself."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import and_, case, func, select

from smartmem.db.engine import Database
from smartmem.db.tables import memory_audit_logs, memory_items
from smartmem.types import Operation

RECENT = 10_000  # changes that are looked at: one range of the primary key, however long the history is


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    """Memories among the latest changes; `corrected` by their user's own edit or deletion; `mentioned` ones went into
    a prompt at least once."""

    memories: int
    corrected: int
    mentioned: int
    mentioned_corrected: int

    @property
    def correction_rate(self) -> float | None:
        return self.corrected / self.memories if self.memories else None

    @property
    def wrong_mention_rate(self) -> float | None:
        """From above: an edit counts although the memory may have been mentioned only after it."""
        return self.mentioned_corrected / self.mentioned if self.mentioned else None


def corrections(db: Database, *, recent: int = RECENT) -> Corrections:
    """Count over the `recent` latest audit rows. A memory counts once, however often it was changed."""
    a, i = memory_audit_logs.c, memory_items.c
    theirs = and_(a.operator == "user", a.operation.in_((Operation.UPDATE.value, Operation.DELETE.value)))
    with db.read() as conn:
        last = conn.execute(select(func.max(a.id))).scalar() or 0
        changed = (
            select(a.memory_id, func.max(case((theirs, 1), else_=0)).label("corrected"))
            .where(a.id > last - recent)
            .group_by(a.memory_id)
            .subquery()
        )
        mentioned = case((i.last_access_at.is_not(None), 1), else_=0)
        row = conn.execute(
            select(
                func.count(),
                func.coalesce(func.sum(changed.c.corrected), 0),
                func.coalesce(func.sum(mentioned), 0),
                func.coalesce(func.sum(mentioned * changed.c.corrected), 0),
            ).select_from(changed.outerjoin(memory_items, i.id == changed.c.memory_id))
        ).one()
    memories, corrected, shown, wrong = map(int, row)
    return Corrections(memories=memories, corrected=corrected, mentioned=shown, mentioned_corrected=wrong)
