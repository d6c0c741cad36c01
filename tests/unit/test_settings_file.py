"""`smartmem init` writes what smartmem/settings.py says: uncommented, the file is the defaults."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from pydantic import BaseModel

from smartmem.cli.settings_file import render
from smartmem.settings import Settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMARTMEM_DATABASE_URL", raising=False)
    monkeypatch.delenv("SMARTMEM_STORE", raising=False)


def uncommented(text: str) -> str:
    return re.sub(r"(?m)^#(?=\w+ = )", "", text)


def keys(model: type[BaseModel], path: str = "") -> set[str]:
    found: set[str] = set()
    for name, field in model.model_fields.items():
        default = field.get_default()
        found |= keys(type(default), f"{path}{name}.") if isinstance(default, BaseModel) else {f"{path}{name}"}
    return found


def written(table: dict[str, Any], model: type[BaseModel], path: str = "") -> set[str]:
    found: set[str] = set()
    for name, value in table.items():
        default = model.model_fields[name].get_default()
        found |= (
            written(value, type(default), f"{path}{name}.") if isinstance(default, BaseModel) else {f"{path}{name}"}
        )
    return found


def test_as_written_it_changes_nothing(tmp_path: Any) -> None:
    file = tmp_path / "smartmem.toml"
    file.write_text(render(), "utf-8")
    assert Settings.load(file) == Settings()


def test_uncommented_it_is_every_default(tmp_path: Any) -> None:
    file = tmp_path / "smartmem.toml"
    file.write_text(uncommented(render()), "utf-8")
    assert Settings.load(file) == Settings()
    unset = {key for key in keys(Settings) if f"# {key.rpartition('.')[2]}: not set" in render()}
    assert written(tomllib.loads(file.read_text("utf-8")), Settings) | unset == keys(Settings)


def test_the_database_is_the_one_live_line(tmp_path: Any) -> None:
    text = render("sqlite:///other.db")
    assert [line for line in text.splitlines() if re.match(r"\w+ = ", line)] == ['database_url = "sqlite:///other.db"']


def test_a_component_of_the_environment_takes_no_options_from_the_file(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "smartmem.toml"
    file.write_text(
        'embedder = { name = "onnx", model = "e5-small-v2" }\n[extract]\nextractor = { name = "llm", model = "m" }\n'
        "max_facts = 2\n",
        "utf-8",
    )
    monkeypatch.setenv("SMARTMEM_EMBEDDER", '{"name": "mock"}')
    monkeypatch.setenv("SMARTMEM_EXTRACT__EXTRACTOR", '{"name": "rules"}')
    known = Settings.load(file)
    assert known.embedder == {"name": "mock"}
    assert known.extract.extractor == {"name": "rules"}
    assert known.extract.max_facts == 2


def test_limits_and_choices_stand_beside_the_keys() -> None:
    text = render()
    assert '#mode = "decision"  # one of legacy, shadow, decision' in text
    assert re.search(r"#min_confidence = 0.5 +# at least 0; at most 1", text)
