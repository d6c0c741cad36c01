"""Rerankers by name."""

from smartmem.rag.rerank.cross_encoder import CrossEncoderReranker
from smartmem.rag.rerank.http import HttpReranker
from smartmem.rag.rerank.llm import LlmReranker
from smartmem.rag.rerank.none import NoReranker

__all__ = ["CrossEncoderReranker", "HttpReranker", "LlmReranker", "NoReranker"]
