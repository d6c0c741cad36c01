"""Answers as tables: every record that a notebook holds becomes a frame, and shows itself without pandas.

class Hits(Tabular):
    def _table(self): return ("rank", "text"), [(1, "…")]

hits.to_frame()      # a DataFrame (extra `eval`)
hits                 # in a notebook: a table of HTML, with the extra or without
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from smartmem.errors import needs

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
Table = tuple[Sequence[str], Sequence[Sequence[Any]]]


class Tabular:
    """The seam: a class says what its table is, and gets the frame and the HTML for it."""

    __slots__ = ()
    # Columns that the frame has and the HTML leaves out, for people do not read them.
    _hidden: ClassVar[tuple[str, ...]] = ()

    def _table(self) -> Table:
        """The columns' names, and one sequence of values a row. Of a dataclass: one row, one column a field."""
        names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        return names, [[_cell(getattr(self, name)) for name in names]]

    def _above(self) -> Iterable[str]:
        """Sentences above the table."""
        return ()

    def _below(self) -> Iterable[str]:
        """Sentences below it."""
        return ()

    def to_frame(self) -> pd.DataFrame:
        """The table as a pandas frame; raises `MissingExtra` without the extra `eval`."""
        with needs("eval"):
            import pandas as pd

        columns, rows = self._table()
        return pd.DataFrame([list(row) for row in rows], columns=list(columns))

    def _repr_html_(self) -> str:
        columns, rows = self._table()
        kept = [place for place, name in enumerate(columns) if name not in self._hidden]
        head = "".join(f"<th>{escape(columns[place])}</th>" for place in kept)
        body = "".join("<tr>" + "".join(f"<td>{_shown(row[p])}</td>" for p in kept) + "</tr>" for row in rows)
        table = f'<table class="dataframe"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        above, below = ("".join(f"<p>{escape(text)}</p>" for text in part) for part in (self._above(), self._below()))
        return above + table + below


class Rows(tuple[T, ...], Tabular):
    """Several records of one dataclass, or rows of one query: a tuple that is a table too."""

    __slots__ = ()

    def _table(self) -> Table:
        if not self:
            return (), ()
        first: Any = self[0]
        fields = getattr(first, "_fields", None) or [field.name for field in dataclasses.fields(first)]
        return fields, [[_cell(getattr(item, name)) for name in fields] for item in self]


def _cell(value: Any) -> Any:
    """A value as one cell: what holds several is written as one text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_cell(each)}" for name, each in value.items())
    return ", ".join(str(_cell(each)) for each in value) if isinstance(value, list | tuple) else value


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return escape(f"{value:%Y-%m-%d %H:%M}" if isinstance(value, dt.datetime) else str(value))
