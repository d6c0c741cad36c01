"""The one progress bar: quiet when the output is not a terminal, so that logs and notebooks stay readable."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(items: Iterable[T], label: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Yield `items` behind a bar on stderr (shown only on a terminal and only after half a second)."""
    yield from tqdm(items, desc=label, total=total, unit=unit, disable=not sys.stderr.isatty(), delay=0.5)


@contextmanager
def bar(label: str, total: int | None = None, unit: str = "it") -> Iterator[Any]:
    """A bar to be moved by hand with `.update(n)`; same rules as `track`."""
    with tqdm(desc=label, total=total, unit=unit, disable=not sys.stderr.isatty(), delay=0.5) as handle:
        yield handle
