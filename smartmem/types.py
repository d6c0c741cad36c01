"""Names that every room shares: the states and kinds that stand in the tables, and plain aliases."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

Json = Mapping[str, Any]
Scalar = str | int | float | bool

MAX_ID = 2**63 - 1  # what the databases' BIGINT holds


def is_user(user_id: int) -> bool:
    """Whether a number can be a user's: positive, and not too large for the tables."""
    return 0 < user_id <= MAX_ID


class Role(StrEnum):
    """Who said a message."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


class EventStatus(StrEnum):
    """States of an outbox event; `consumed` and `dead` are final."""

    PENDING = "pending"
    PROCESSING = "processing"
    FAILED = "failed"
    CONSUMED = "consumed"
    DEAD = "dead"


class JobStatus(StrEnum):
    """States of a job; `success` and `dead` are final."""

    PENDING = "pending"
    PROCESSING = "processing"
    FAILED = "failed"
    SUCCESS = "success"
    DEAD = "dead"


class JobType(StrEnum):
    """What a job does."""

    EXTRACT = "extract"
    EMBED = "embed"
    RECONCILE = "reconcile"


class MemoryType(StrEnum):
    """What kind of thing a memory says, in the order in which budgets are filled."""

    CONSTRAINT = "constraint"
    PREFERENCE = "preference"
    TODO_HINT = "todo_hint"
    FACT = "fact"


class MemoryStatus(StrEnum):
    """Life of a memory item. Only `active` ones are ever recalled."""

    ACTIVE = "active"
    SUPERSEDED = "superseded"
    DELETED = "deleted"
    EXPIRED = "expired"
    ARCHIVED = "archived"


class VectorStatus(StrEnum):
    """How far the vector store knows a memory item."""

    PENDING = "pending"
    SYNCED = "synced"
    FAILED = "failed"
    NONE = "none"


class Operation(StrEnum):
    """What an audit row says was done to a memory item."""

    CREATE = "create"
    UPDATE = "update"
    ARCHIVE = "archive"
    DELETE = "delete"
    RESTORE = "restore"
    EXPIRE = "expire"
    MERGE = "merge"
