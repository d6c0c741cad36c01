"""Vector stores by name."""

from smartmem.rag.store.memory import MemoryStore

__all__ = ["MemoryStore"]
