"""Components of a site's own, named in SMARTMEM_COMPONENTS."""

from __future__ import annotations

from pathlib import Path

import pytest

from smartmem.errors import ConfigError
from smartmem.memory.extract import base, create_extractor
from smartmem.rag import registry
from smartmem.rag.registry import create, names

OWN = """
from smartmem.memory.extract import Extraction, extractor
from smartmem.rag.registry import register

@register("chunker", "{name}")
class Own:
    def chunk(self, document):
        return []

@extractor("{name}")
class Silent:
    concurrency = 1
    def extract(self, message):
        return Extraction()
"""


@pytest.fixture(autouse=True)
def _registry_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._registry, "chunker", dict(registry._registry["chunker"]))
    monkeypatch.setattr(base, "_extractors", dict(base._extractors))


def test_a_file_registers_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own_parts.py"
    file.write_text(OWN.format(name="own-by-file"), "utf-8")
    monkeypatch.setenv("SMARTMEM_COMPONENTS", str(file))
    assert "own-by-file" in names("chunker")
    assert create("chunker", "own-by-file").chunk(None) == []
    assert create_extractor("own-by-file").concurrency == 1


def test_a_module_registers_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_module.py").write_text(OWN.format(name="own-by-module"), "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SMARTMEM_COMPONENTS", "own_module")
    assert "own-by-module" in names("chunker")


@pytest.mark.parametrize("place", ["nowhere.py", "no_such_module_anywhere"])
def test_what_is_not_there_is_named(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMARTMEM_COMPONENTS", place)
    with pytest.raises(ConfigError, match=f"SMARTMEM_COMPONENTS names '{place}'"):
        names("chunker")
