"""Corpora by name: pipelines behind obligatory filters."""

from smartmem.rag.corpus.scoped import ChatCorpus, CorpusStats, MemoryCorpus, WebCorpus

__all__ = ["ChatCorpus", "CorpusStats", "MemoryCorpus", "WebCorpus"]
