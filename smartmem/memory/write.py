"""From decisions to changes: what each decision creates, ends or leaves, and the row that remembers the decision."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

from smartmem.memory.apply import REASON_CHARS, Changes, Origin, Row, new_item
from smartmem.memory.decide import Decision, Op
from smartmem.types import MemoryStatus, Operation, VectorStatus

# What was written, beside Op's words: history = an older fact kept as the past of a newer one.
HISTORY = "HISTORY"


def write_decision(changes: Changes, decision: Decision, origin: Origin, now: dt.datetime) -> tuple[str, str | None]:
    """Collect what one decision changes. Returns the word for what was written and the id of the new item, if any."""
    if decision.history:
        return HISTORY, _keep_history(changes, decision, origin, now)
    if decision.operation is Op.NONE:
        return Op.NONE.value, None
    if decision.fact.action == "retract":
        _take_back(changes, decision, origin)
        return Op.DELETE.value, None
    row = new_item(decision.fact, origin, now)
    if decision.target is not None:
        _supersede(changes, decision, row, origin)
    changes.create(row, decision.reason, required=decision.target is not None)
    return decision.operation.value, row["id"]


def write_legacy(changes: Changes, decision: Decision, origin: Origin, now: dt.datetime) -> tuple[str, str | None]:
    """Collect what `legacy` would have written: what is new by its hash, whatever was decided (shadow mode)."""
    if decision.fact.action == "retract" or decision.fact.unsure:
        return Op.NONE.value, None
    row = new_item(decision.fact, origin, now)
    changes.create(row, "new by its content")
    return Op.ADD.value, row["id"]


def decision_row(
    index: int, decision: Decision, mode: str, written: str, memory_id: str | None, origin: Origin, now: dt.datetime
) -> Row:
    """The row of memory_decisions."""
    target: Mapping[str, Any] | None = decision.target
    return {
        "job_id": origin.job_id,
        "fact_index": index,
        "user_id": origin.user_id,
        "mode": mode,
        "operation": decision.operation.value,
        "written": written,
        "fact": json.dumps(decision.fact.to_json(), ensure_ascii=False),
        "target_id": target["id"] if target is not None else None,
        "memory_id": memory_id,
        "comparisons": json.dumps(
            {
                "relation": decision.relation.value,
                "pairs": [compared.to_json() for compared in decision.comparisons],
            }
        ),
        "reason": decision.reason[:REASON_CHARS],
        "fallback_reason": decision.fallback_reason[:REASON_CHARS] if decision.fallback_reason else None,
        "trace_id": origin.trace_id,
        "created_at": now,
    }


def targets(decisions: Sequence[Decision]) -> list[str]:
    """The ids of the memories that these decisions change."""
    return [d.target["id"] for d in decisions if d.target is not None and d.operation in (Op.UPDATE, Op.DELETE)]


def _supersede(changes: Changes, decision: Decision, row: Row, origin: Origin) -> None:
    assert decision.target is not None  # noqa: S101 - the caller has looked
    end = {
        "status": MemoryStatus.SUPERSEDED.value,
        "valid_to": decision.fact.valid_from,
        "superseded_by": row["id"],
    }
    update = decision.operation is Op.UPDATE
    changes.change(
        decision.target,
        end,
        Operation.UPDATE if update else Operation.DELETE,
        f"{decision.relation.value}: {decision.reason}",
        trace_id=origin.trace_id,
        job_id=origin.job_id,
    )


def _take_back(changes: Changes, decision: Decision, origin: Origin) -> None:
    """'I no longer…' ends a memory and keeps it as history; 'forget that…' takes it out of sight altogether."""
    assert decision.target is not None  # noqa: S101 - aggregate names a target with every deletion
    unsay = decision.fact.is_explicit
    changes.change(
        decision.target,
        {
            "status": MemoryStatus.DELETED.value if unsay else MemoryStatus.ARCHIVED.value,
            "valid_to": decision.fact.valid_from,
        },
        Operation.DELETE if unsay else Operation.ARCHIVE,
        f"retraction: {decision.reason}",
        trace_id=origin.trace_id,
        job_id=origin.job_id,
    )


def _keep_history(changes: Changes, decision: Decision, origin: Origin, now: dt.datetime) -> str:
    assert decision.target is not None  # noqa: S101 - there is no history without the newer memory
    row = new_item(decision.fact, origin, now)
    row.update(
        status=MemoryStatus.SUPERSEDED.value,
        active_hash=None,
        valid_to=decision.target["valid_from"],
        superseded_by=decision.target["id"],
        vector_status=VectorStatus.NONE.value,
    )
    changes.create(row, f"{decision.relation.value}: {decision.reason}")
    item_id: str = row["id"]
    return item_id
