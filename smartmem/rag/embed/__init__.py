"""Embedders by name. Importing this package registers light classes; heavy libraries load in constructors."""

from smartmem.rag.embed.by_language import ByLanguageEmbedder
from smartmem.rag.embed.cache import CachedEmbedder
from smartmem.rag.embed.mock import MockEmbedder
from smartmem.rag.embed.onnx import OnnxEmbedder
from smartmem.rag.embed.openai import OpenAIEmbedder
from smartmem.rag.embed.sentence_transformers import SentenceTransformersEmbedder
from smartmem.rag.embed.static import StaticEmbedder

__all__ = [
    "ByLanguageEmbedder",
    "CachedEmbedder",
    "MockEmbedder",
    "OnnxEmbedder",
    "OpenAIEmbedder",
    "SentenceTransformersEmbedder",
    "StaticEmbedder",
]
