"""From filters to Milvus expressions. Values are written as escaped literals: Milvus Lite knows no templates."""

from __future__ import annotations

import json
import re

from smartmem.errors import ConfigError
from smartmem.rag.types import Condition, Filter, Metadata
from smartmem.types import Scalar

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def check_field(name: str) -> str:
    """The dynamic field of a metadata name, apart from the collection's own fields. `ConfigError` for other names than
    letters, digits and underscores: an expression could not speak of them."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"metadata field {name!r}: Milvus takes letters, digits and underscores only; rename it")
    return f"m_{name}"


def encoded(value: Scalar) -> str | int | float:
    """Strings and booleans carry their kind in front, so that "true", True and 1 stay different. Order is kept."""
    if isinstance(value, bool):
        return f"b:{value}"
    return f"s:{value}" if isinstance(value, str) else value


def owner_of(metadata: Metadata) -> str:
    """The value of the partition key: the user with its kind, or nobody."""
    user = metadata.get("user_id")
    return "" if user is None else _owner(user)


def expression(filter: Filter) -> str:
    """The filter in Milvus's language; the empty filter is the empty expression."""
    return " and ".join(_test(condition) for condition in filter.conditions)


def _test(condition: Condition) -> str:
    many = condition.value if isinstance(condition.value, tuple) else (condition.value,)
    if condition.op in ("eq", "in"):
        if condition.field == "user_id":
            return _one_of("owner", [_owner(value) for value in many])
        if condition.field == "document_id":
            return _one_of("document_id", [value for value in many if isinstance(value, str)])
        return _one_of(check_field(condition.field), [encoded(value) for value in many])
    if isinstance(condition.value, tuple | bool):
        raise ConfigError(f"filter on {condition.field!r}: {condition.op} needs one number or string")
    field = "document_id" if condition.field == "document_id" else check_field(condition.field)
    value = condition.value if field == "document_id" else encoded(condition.value)
    return f"{field} {_SIGNS[condition.op]} {_literal(value)}{_same_kind(field, condition)}"


def _same_kind(field: str, condition: Condition) -> str:
    """Strings never compare with booleans ("b:" sorts before "s:")."""
    if field == "document_id" or not isinstance(condition.value, str):
        return ""
    return f' and {field} >= "s:" and {field} < "t"'


def _one_of(field: str, values: list[str | int | float] | list[str]) -> str:
    if not values:
        return 'id == ""'  # nothing passes; no chunk has an empty id
    if len(values) == 1:
        return f"{field} == {_literal(values[0])}"
    return f"{field} in [{', '.join(_literal(value) for value in values)}]"


def _owner(user: Scalar) -> str:
    kept = encoded(user)
    return kept if isinstance(kept, str) else f"n:{user:g}" if isinstance(user, float) else f"n:{user}"


def _literal(value: str | int | float) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
