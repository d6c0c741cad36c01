"""Vector stores by name."""

from smartmem.rag.store.memory import MemoryStore
from smartmem.rag.store.milvus import MilvusStore

__all__ = ["MemoryStore", "MilvusStore"]
