"""What a user may do with her memories: list, get, edit, delete, restore, expire, settings, clean-up.

`forget`, which empties texts everywhere, is in forget.py. Every change has its audit row and its `embed` job in the
same transaction; what is deleted or switched off is out of every recall as soon as the call returns.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from smartmem.db.dialects import upsert
from smartmem.db.engine import Database
from smartmem.db.tables import memory_items, memory_user_settings
from smartmem.errors import BadRecord, DataError, ScopeError
from smartmem.memory.apply import Changes, ItemChanged, Row
from smartmem.memory.extract.slots import sensitivity, slot_of
from smartmem.memory.facts import CONTENT_CHARS, NAMESPACE, Candidate
from smartmem.memory.normalise import normalise_facts
from smartmem.memory.similarity import similarity
from smartmem.memory.user_settings import DEFAULTS, UserSettings, load_user_settings
from smartmem.memory.views import Duplicates, MemoryItem, Page
from smartmem.text import cut, fold_space
from smartmem.types import MemoryStatus, MemoryType, Operation, is_user

_ITEM = memory_items.c
EXPIRE_BATCH = 500
EDIT_CHARS = CONTENT_CHARS * 8  # of a pasted megabyte no more is looked at


class NoSuchMemory(DataError):
    """There is no such memory, or it belongs to another user."""


# --- reading ----------------------------------------------------------------------------------------------------


def list_memories(
    db: Database,
    user_id: int,
    *,
    namespace: str = NAMESPACE,
    memory_types: Sequence[str] = (),
    statuses: Sequence[str] = (MemoryStatus.ACTIVE.value,),
    text: str | None = None,
    as_of: dt.datetime | None = None,
    limit: int = 50,
    offset: int = 0,
) -> Page:
    """A page of a user's memories, newest first. No `statuses` means all of them.

    `text` keeps those whose content holds it (case does not matter); `as_of` those that held true at that time.
    """
    require_user(user_id)
    tests: list[ColumnElement[bool]] = [_ITEM.user_id == user_id, _ITEM.namespace == namespace]
    if as_of is not None:
        tests += [_ITEM.valid_from <= as_of, (_ITEM.valid_to.is_(None)) | (_ITEM.valid_to > as_of)]
        tests.append(_ITEM.status != MemoryStatus.DELETED.value)
    elif statuses:
        tests.append(_ITEM.status.in_(list(statuses)))
    if memory_types:
        tests.append(_ITEM.memory_type.in_(list(memory_types)))
    if text:
        tests.append(func.instr(func.lower(_ITEM.content), text.lower()) > 0)
    where = and_(*tests)
    with db.read() as conn:
        total = conn.execute(select(func.count()).select_from(memory_items).where(where)).scalar_one()
        query = select(memory_items).where(where).order_by(_ITEM.valid_from.desc(), _ITEM.id.desc())
        rows = [dict(row) for row in conn.execute(query.limit(limit).offset(offset)).mappings()]
    return Page(items=tuple(MemoryItem.of(row) for row in rows), total=total, limit=limit, offset=offset)


def get_memory(db: Database, user_id: int, memory_id: str) -> MemoryItem:
    """One memory of this user, whatever its status. Raises `NoSuchMemory`."""
    with db.read() as conn:
        return MemoryItem.of(_row(conn, user_id, memory_id))


# --- changing ---------------------------------------------------------------------------------------------------


def edit_memory(
    db: Database,
    user_id: int,
    memory_id: str,
    *,
    version: int,
    content: str | None = None,
    memory_type: str | None = None,
    importance: float | None = None,
    ttl_at: dt.datetime | None = None,
    reason: str = "edited by the user",
) -> MemoryItem:
    """Change an active memory. `version` is the one that the caller saw.

    Raises `ItemChanged` when it is no longer the current one, `BadRecord` for values that cannot stand, and
    `DataError` when another active memory already says the same.
    """

    def work(conn: Connection) -> Row:
        row = _row(conn, user_id, memory_id, lock=True)
        if row["version"] != version:
            raise ItemChanged(f"memory {memory_id} is at version {row['version']}, not {version}: read it again")
        if row["status"] != MemoryStatus.ACTIVE:
            raise BadRecord(
                f"memory {memory_id} is {row['status']}; only an active one can be edited: restore it first"
            )
        values = _edited(row, content, memory_type, importance, ttl_at, db.now())
        changes = Changes(db, db.now(), operator="user")
        after = changes.change(row, values, Operation.UPDATE, reason)
        changes.flush(conn)
        return after

    return MemoryItem.of(_unique(db, work, memory_id))


def delete_memory(db: Database, user_id: int, memory_id: str, *, reason: str = "deleted by the user") -> MemoryItem:
    """Take a memory out of use; its text stays for `restore`. Deleting twice is no error and changes nothing."""

    def work(conn: Connection) -> Row:
        row = _row(conn, user_id, memory_id, lock=True)
        if row["status"] == MemoryStatus.DELETED:
            return row
        changes = Changes(db, db.now(), operator="user")
        values = {"status": MemoryStatus.DELETED.value, "valid_to": row["valid_to"] or db.now()}
        after = changes.change(row, values, Operation.DELETE, reason)
        changes.flush(conn)
        return after

    return MemoryItem.of(db.run(work))


def restore_memory(db: Database, user_id: int, memory_id: str, *, reason: str = "restored by the user") -> MemoryItem:
    """Make a memory active again. Raises `DataError` when another active one says the same by now."""

    def work(conn: Connection) -> Row:
        row = _row(conn, user_id, memory_id, lock=True)
        if row["status"] == MemoryStatus.ACTIVE:
            return row
        values = {"status": MemoryStatus.ACTIVE.value, "valid_to": None, "superseded_by": None}
        if row["ttl_at"] is not None and row["ttl_at"] <= db.now():
            values["ttl_at"] = None  # else it would expire again at once
        changes = Changes(db, db.now(), operator="user")
        after = changes.change(row, values, Operation.RESTORE, reason)
        changes.flush(conn)
        return after

    return MemoryItem.of(_unique(db, work, memory_id))


def expire_memories(db: Database, *, user_id: int | None = None, dry_run: bool = False) -> int:
    """Expire every active memory whose `ttl_at` has passed; returns how many. In batches, so no long lock."""
    now = db.now()
    due = (_ITEM.status == MemoryStatus.ACTIVE.value) & (_ITEM.ttl_at <= now)
    if user_id is not None:
        due = due & (_ITEM.user_id == user_id)
    if dry_run:
        with db.read() as conn:
            return int(conn.execute(select(func.count()).select_from(memory_items).where(due)).scalar_one())

    def work(conn: Connection) -> int:
        query = select(memory_items).where(due).order_by(_ITEM.id).limit(EXPIRE_BATCH).with_for_update()
        rows = [dict(row) for row in conn.execute(query).mappings()]
        changes = Changes(db, now)
        for row in rows:
            values = {"status": MemoryStatus.EXPIRED.value, "valid_to": row["ttl_at"]}
            changes.change(row, values, Operation.EXPIRE, f"its time ended at {row['ttl_at'].isoformat()}")
        changes.flush(conn)
        return len(rows)

    expired = 0
    while batch := db.run(work):
        expired += batch
    return expired


# --- settings ---------------------------------------------------------------------------------------------------


def get_settings(db: Database, user_id: int) -> UserSettings:
    """What a user allows; the defaults when she never said."""
    require_user(user_id)
    with db.read() as conn:
        return load_user_settings(conn, [user_id]).get(user_id, DEFAULTS)


def set_settings(
    db: Database,
    user_id: int,
    *,
    memory_enabled: bool | None = None,
    implicit_memory_enabled: bool | None = None,
    sensitive_memory_enabled: bool | None = None,
) -> UserSettings:
    """Change the switches that are given; they hold for writing and reading from the commit on."""
    require_user(user_id)

    def work(conn: Connection) -> UserSettings:
        old = load_user_settings(conn, [user_id]).get(user_id, DEFAULTS)
        new = UserSettings(
            memory_enabled=old.memory_enabled if memory_enabled is None else memory_enabled,
            implicit_memory_enabled=(
                old.implicit_memory_enabled if implicit_memory_enabled is None else implicit_memory_enabled
            ),
            sensitive_memory_enabled=(
                old.sensitive_memory_enabled if sensitive_memory_enabled is None else sensitive_memory_enabled
            ),
        )
        names = ("memory_enabled", "implicit_memory_enabled", "sensitive_memory_enabled")
        row = {"user_id": user_id, "updated_at": db.now(), **{name: getattr(new, name) for name in names}}
        columns = {name: name for name in (*names, "updated_at")}
        conn.execute(upsert(memory_user_settings, db.dialect, columns), [row])
        return new

    return db.run(work)


# --- clean-up ---------------------------------------------------------------------------------------------------


def dedupe(
    db: Database,
    user_id: int,
    *,
    namespace: str = NAMESPACE,
    keep: str = "newest",
    threshold: float = 0.9,
    dry_run: bool = True,
) -> tuple[Duplicates, ...]:
    """Find active memories of one type that say the same, and archive all but one of each group.

    `keep` is `newest` or `confident`. `threshold`: share of common words from which two texts are the same. Groups
    are made around the memory that is kept, so that a chain of small differences never joins strangers.
    """
    require_user(user_id)
    if keep not in ("newest", "confident"):
        raise BadRecord(f"dedupe keep = {keep!r}: write 'newest' or 'confident'")

    def work(conn: Connection) -> tuple[Duplicates, ...]:
        query = select(memory_items).where(
            _ITEM.user_id == user_id, _ITEM.namespace == namespace, _ITEM.status == MemoryStatus.ACTIVE.value
        )
        rows = [dict(row) for row in conn.execute(query if dry_run else query.with_for_update()).mappings()]
        groups = _groups(rows, keep, threshold)
        if not dry_run:
            changes = Changes(db, db.now())
            for kept, others in groups:
                for row in others:
                    values = {
                        "status": MemoryStatus.ARCHIVED.value,
                        "valid_to": db.now(),
                        "superseded_by": kept["id"],
                    }
                    changes.change(row, values, Operation.MERGE, f"says the same as {kept['id']}")
            changes.flush(conn)
        return tuple(
            Duplicates(
                user_id=user_id, keep=kept["id"], drop=tuple(row["id"] for row in others), content=kept["content"]
            )
            for kept, others in groups
        )

    if dry_run:
        with db.read() as conn:
            return work(conn)
    return db.run(work)


def _groups(rows: Sequence[Row], keep: str, threshold: float) -> list[tuple[Row, list[Row]]]:
    if keep == "newest":
        best_first = sorted(rows, key=lambda row: (row["valid_from"], row["id"]), reverse=True)
    else:
        best_first = sorted(rows, key=lambda row: (row["confidence"], row["valid_from"], row["id"]), reverse=True)
    groups: list[tuple[Row, list[Row]]] = []
    for row in best_first:
        for kept, others in groups:
            alike = row["memory_type"] == kept["memory_type"] and row["slot"] == kept["slot"]
            if alike and similarity(row["content"], kept["content"]) >= threshold:
                others.append(row)
                break
        else:
            groups.append((row, []))
    return [group for group in groups if group[1]]


# --- inside -----------------------------------------------------------------------------------------------------


def _row(conn: Connection, user_id: int, memory_id: str, *, lock: bool = False) -> Row:
    require_user(user_id)
    query = select(memory_items).where(_ITEM.id == memory_id, _ITEM.user_id == user_id)
    row = conn.execute(query.with_for_update() if lock else query).mappings().first()
    if row is None:
        raise NoSuchMemory(f"user {user_id} has no memory {memory_id!r}; list them to see the ids")
    return dict(row)


def require_user(user_id: int) -> None:
    """Raise `ScopeError` for what cannot be a user's number."""
    if not is_user(user_id):
        raise ScopeError(f"user_id = {user_id}: memories belong to a user with a positive number")


def _edited(
    row: Mapping[str, Any],
    content: str | None,
    memory_type: str | None,
    importance: float | None,
    ttl_at: dt.datetime | None,
    now: dt.datetime,
) -> Row:
    """The columns that an edit changes, checked by the same rules as extracted facts."""
    kind = memory_type or row["memory_type"]
    text = row["content"] if content is None else cut(fold_space(content[:EDIT_CHARS]), CONTENT_CHARS)[0]
    candidate = Candidate(
        memory_type=kind,
        content=text,
        confidence=row["confidence"],
        importance=row["importance"] if importance is None else importance,
        sensitivity_level=sensitivity(kind, text) if content is not None else row["sensitivity_level"],
        is_explicit=True,
        ttl_at=ttl_at or row["ttl_at"],
        slot=slot_of(kind, text, None) if content is not None or memory_type else row["slot"],
    )
    normal = normalise_facts([candidate], row["valid_from"])
    if not normal.facts:
        known = ", ".join(MemoryType)
        raise BadRecord(
            f"edit of memory {row['id']}: {normal.dropped[0].code} (types are {known}; text must not be blank)"
        )
    wrong = [note for note in normal.notes if note.code in ("IMPORTANCE_INVALID", "TTL_IN_PAST", "TTL_NAIVE")]
    if wrong:
        raise BadRecord(f"edit of memory {row['id']}: {wrong[0].code} ({wrong[0].detail})")
    if ttl_at is not None and ttl_at <= now:
        raise BadRecord(f"edit of memory {row['id']}: ttl_at {ttl_at.isoformat()} is in the past; delete it instead")
    fact = normal.facts[0]
    names = (
        "memory_type",
        "content",
        "content_hash",
        "slot",
        "language",
        "importance",
        "sensitivity_level",
        "is_explicit",
    )
    values = {name: getattr(fact, name) for name in (*names, "ttl_at")}
    if content is not None:
        values["title"] = fact.title
    return values


def _unique(db: Database, work: Any, memory_id: str) -> Row:
    """Run a change that may meet the unique key of active memories, and say what that means."""
    try:
        row: Row = db.run(work)
    except IntegrityError as error:
        raise DataError(
            f"memory {memory_id}: another active memory already says the same; delete that one first"
        ) from error
    return row
