"""A commented smartmem.toml, written from the defaults of smartmem/settings.py, so that the two cannot drift."""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from smartmem.settings import Settings

_HEAD = """\
# Settings of smartmem. Every line that begins with "#name =" shows a default: take the "#" away to change it.
# The environment wins over this file. There a name is written SMARTMEM_SECTION__NAME, for example
#   SMARTMEM_JOBS__MAX_RETRY=3
# Passwords and API keys belong in the environment only; keep a database URL that holds one in SMARTMEM_DATABASE_URL.
"""
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LIMITS = (
    (annotated_types.Ge, "ge", "at least"),
    (annotated_types.Gt, "gt", "more than"),
    (annotated_types.Le, "le", "at most"),
    (annotated_types.Lt, "lt", "less than"),
)


def render(database_url: str | None = None) -> str:
    """The file's text. `database_url`, if given, is the one line that is not commented out."""
    live = {} if database_url is None else {"database_url": database_url}
    return "\n".join([_HEAD, *_section(Settings, (), live)]) + "\n"


def _section(model: type[BaseModel], path: tuple[str, ...], live: Mapping[str, Any]) -> Iterator[str]:
    """One table: its own keys first (TOML wants them before any sub-table), then the tables inside it."""
    inner: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            inner.append((name, type(default)))
            continue
        hint = _hint(field)
        if default is None and name not in live:
            yield f"# {name}: not set unless you write it{f' ({hint})' if hint else ''}"
            continue
        line = f"{name} = {_toml(live[name])}" if name in live else f"#{name} = {_toml(default)}"
        yield f"{line}  # {hint}" if hint else line
    for name, table in inner:
        where = (*path, name)
        about = inspect.getdoc(table) if table.__doc__ else None  # getdoc would take the parent's otherwise
        lines = list(_section(table, where, {}))
        if lines[0]:  # else it holds tables only, and those name it
            yield from ("", *(f"# {line}".rstrip() for line in (about or "").splitlines()), f"[{'.'.join(where)}]")
        yield from lines


def _hint(field: FieldInfo) -> str:
    """What the field's own words and limits say, on one line."""
    said = [field.description] if field.description else []
    choices = _choices(field.annotation)
    if choices:
        said.append("one of " + ", ".join(choices))
    limits = [
        (word, getattr(mark, name)) for mark in field.metadata for kind, name, word in _LIMITS if type(mark) is kind
    ]
    said += [f"{word} {bound:g}" for word, bound in limits]
    return "; ".join(said)


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    if get_origin(annotation) in (tuple, Union, types.UnionType):
        return [choice for inner in get_args(annotation) for choice in _choices(inner)]
    return []


def _toml(value: Any) -> str:
    """A TOML value on one line. JSON's strings and booleans are TOML's too."""
    if isinstance(value, Mapping):
        pairs = (f"{k if _BARE.fullmatch(k) else json.dumps(k)} = {_toml(v)}" for k, v in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
