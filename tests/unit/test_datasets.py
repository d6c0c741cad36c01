"""The registry: where files are looked for, hashes, and what is said when something is missing."""

import hashlib
from pathlib import Path

import pytest

from smartmem.errors import ChecksumMismatch, ConfigError, DataError
from smartmem.evaluation.datasets import get, list_datasets, load_dataset, show_dataset, validate, write_template
from smartmem.evaluation.datasets.registry import ENV_FOLDER, ENV_REGISTRY, load_registry

ENTRY = """
local = ["files"]
[datasets.mine]
loader = "jsonl"
title = "t"
licence = "l"
use = "u"
files = [{{ name = "mine.jsonl", sha256 = "{sha}", url = "" }}]
"""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry of one file that lies in its `local` folder with the right hash."""
    (tmp_path / "data").mkdir()
    (tmp_path / "files").mkdir()
    file = write_template(tmp_path / "files" / "mine.jsonl")
    path = tmp_path / "data" / "registry.toml"
    path.write_text(ENTRY.format(sha=hashlib.sha256(file.read_bytes()).hexdigest()), "utf-8")
    monkeypatch.setenv(ENV_REGISTRY, str(path))
    monkeypatch.delenv(ENV_FOLDER, raising=False)
    return path


def test_every_row_of_the_specification_is_registered() -> None:
    assert set(list_datasets()) == {
        "smartmem-tiny", "locomo", "locomo-corrected", "madial-zh", "madial-en", "longmemeval-s", "longmemeval-m",
        "longmemeval-oracle", "realtalk", "beam", "jsonl", "smartmem-web",
    }  # fmt: skip
    for entry in list_datasets().values():
        assert entry.licence
        assert entry.use


def test_a_file_is_found_by_name_and_its_hash_checked(registry: Path) -> None:
    data = load_dataset("mine")
    assert data.hash_checked
    assert [state.state for state in validate("mine")] == ["ok"]
    assert get("mine")["mine.jsonl"].name == "mine.jsonl"


def test_a_file_with_another_hash_is_refused_by_name_and_taken_when_given(registry: Path) -> None:
    file = registry.parent.parent / "files" / "mine.jsonl"
    file.write_text(file.read_text("utf-8") + "\n", "utf-8")
    for action in (load_dataset, get):
        with pytest.raises(ChecksumMismatch, match="fetch it again"):
            action("mine")
    assert [state.state for state in validate("mine")] == ["wrong hash"]
    assert not load_dataset("mine", file).hash_checked


def test_the_environment_names_a_folder_first(registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.jsonl").write_text("{}", "utf-8")
    monkeypatch.setenv(ENV_FOLDER, str(elsewhere))
    with pytest.raises(ChecksumMismatch, match="elsewhere"):
        load_dataset("mine")


def test_what_is_missing_says_what_to_do(registry: Path) -> None:
    (registry.parent.parent / "files" / "mine.jsonl").unlink()
    with pytest.raises(DataError, match=r"smartmem data get mine.*SMARTMEM_BENCHMARKS.*path"):
        load_dataset("mine")
    assert [state.state for state in validate("mine")] == ["missing"]
    with pytest.raises(ConfigError, match="unknown dataset 'yours'; known are: mine"):
        show_dataset("yours")
    with pytest.raises(DataError, match="no such file"):
        load_dataset("mine", registry.parent / "none.jsonl")
    registry.write_text(ENTRY.format(sha=""), "utf-8")
    with pytest.raises(DataError, match="nobody has recorded a SHA-256"):
        get("mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[datasets.x]\nloader='jsonl'\ntitle='t'\nlicence='l'\nuse='u'\nurl='x'", r"datasets.x.url"),
        ("[datasets.x]\nloader='nothing'\ntitle='t'\nlicence='l'\nuse='u'", "loader is 'nothing'; known are"),
        ("[datasets", "not valid TOML"),
    ],
)
def test_a_broken_registry_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.toml").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=message):
        load_registry(tmp_path / "r.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_registry(tmp_path / "none.toml")
