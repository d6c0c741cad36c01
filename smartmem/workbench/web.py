"""The web tools with the parts that the settings name: the same embedder that memories use."""

from __future__ import annotations

import logging
from collections.abc import Callable

from smartmem.errors import ConfigError, ModelError
from smartmem.rag.protocols import Embedder
from smartmem.settings import WebSettings
from smartmem.web import WebTools

log = logging.getLogger(__name__)


def web_tools(settings: WebSettings, embedder: Callable[[], Embedder]) -> WebTools:
    """The tools that are switched on. `embedder` is called only where stage 2 asks for one.

    Without its model stage 2 searches words (BM25): a warning says why, and so do the notes of each answer. Raises
    `MissingExtra` without the extra `web`, `ConfigError` for settings that contradict each other.
    """
    made = None
    if settings.rag.enabled and settings.rag.retriever.get("name") != "bm25":
        try:
            made = embedder()
        except (ConfigError, ModelError) as error:
            log.warning("web_rag_search searches words only: %s", error)
    return WebTools.from_settings(settings, embedder=made)
