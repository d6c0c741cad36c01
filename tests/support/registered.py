"""Which components ship with smartmem: other tests register some of their own in the same process."""

from __future__ import annotations

from smartmem.rag.registry import component, names


def shipped(kind: str) -> list[str]:
    """The names of one kind whose class lives in the package, sorted."""
    return [name for name in names(kind) if component(kind, name).__module__.startswith("smartmem.")]
