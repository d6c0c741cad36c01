"""data/registry.toml: which benchmarks there are, where they come from, and what each may be used for.

A file is looked for in this order: the path given by the caller, the folder that SMARTMEM_BENCHMARKS names, the
registry's own `local` folders, the download cache. Files found by name are checked against their SHA-256; a file that
the caller gives is read as it is, and the manifest says that its hash was not checked.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from smartmem.errors import ChecksumMismatch, ConfigError, DataError, MissingExtra
from smartmem.evaluation.datasets import assistants, loaders
from smartmem.evaluation.datasets.pages import pages
from smartmem.evaluation.datasets.records import Dataset, require_unique_ids
from smartmem.rag.models import cache_dir
from smartmem.shipped import is_installed, shipped

ENV_FOLDER = "SMARTMEM_BENCHMARKS"
ENV_REGISTRY = "SMARTMEM_REGISTRY"
_READ = (".json", ".jsonl", ".md", ".toml")
_LOADERS: dict[str, loaders.Loader] = {
    "locomo": loaders.locomo,
    "locomo-corrected": loaders.locomo_corrected,
    "realtalk": loaders.realtalk,
    "tiny": loaders.tiny,
    "jsonl": loaders.jsonl,
    "longmemeval": assistants.longmemeval,
    "madial": assistants.madial,
    "beam": assistants.beam,
    "pages": pages,
}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Model):
    """One file: `local` is its path below a benchmark folder, `sha256` is empty where nobody has checked one yet."""

    name: str
    url: str = ""
    sha256: str = ""
    local: str = ""


class Entry(_Model):
    """One benchmark."""

    loader: str
    title: str
    licence: str
    use: str
    format: Literal["tested", "published"] = "tested"
    text_in_reports: bool = False
    folder: str = ""
    files: tuple[FileEntry, ...] = ()


class Registry(_Model):
    """All benchmarks, and the folders (relative to the project) where their files may lie."""

    local: tuple[str, ...] = ()
    datasets: dict[str, Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """What is known about one file of a benchmark on this machine."""

    dataset: str
    name: str
    path: str
    state: Literal["ok", "missing", "wrong hash", "not checked"]
    sha256: str


def registry_path() -> Path:
    """SMARTMEM_REGISTRY, or data/registry.toml of the project in the current folder, or the package's own."""
    if named := os.environ.get(ENV_REGISTRY):
        return Path(named)
    if found := shipped("data/registry.toml"):
        return found
    raise ConfigError(f"data/registry.toml is neither here nor in the package; set {ENV_REGISTRY}")


def load_registry(path: Path | None = None) -> Registry:
    """Read and check the registry; unknown keys and unknown loaders are refused."""
    file = path or registry_path()
    try:
        made = Registry.model_validate(tomllib.loads(file.read_text("utf-8")))
    except OSError as error:
        raise ConfigError(f"registry {file} cannot be read: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"registry {file} is not valid TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"registry {file}: {where}: {first['msg']}") from None
    for name, entry in made.datasets.items():
        if entry.loader not in _LOADERS:
            raise ConfigError(
                f"registry {file}: datasets.{name}.loader is {entry.loader!r}; known are {', '.join(_LOADERS)}"
            )
    return made


def list_datasets() -> dict[str, Entry]:
    """All registered benchmarks by name."""
    return load_registry().datasets


def show_dataset(name: str) -> Entry:
    """One entry; `ConfigError` names the known ones."""
    entries = list_datasets()
    if name not in entries:
        raise ConfigError(f"unknown dataset {name!r}; known are: {', '.join(sorted(entries))}")
    return entries[name]


def cache_folder() -> Path:
    """Where downloads go: data/cache of the project if it is a checkout, else the user's cache folder."""
    return caches() / "datasets"


def caches() -> Path:
    """The folder of what can be fetched or computed again."""
    root = registry_path().parent
    if root.name == "data" and os.access(root, os.W_OK) and not is_installed(root):
        return root / "cache"
    return cache_dir()


def find_files(name: str) -> dict[str, Path]:
    """The files of a benchmark that are on this machine, by name; a missing one is left out. Hashes are not checked."""
    entry = show_dataset(name)
    if entry.folder:
        folder = registry_path().parent.parent / entry.folder
        return {entry.folder: folder} if folder.is_dir() else {}
    found: dict[str, Path] = {}
    for file in entry.files:
        for root in _roots():
            for candidate in (root / file.local, root / name / file.name, root / file.name):
                if (file.local or candidate.name == file.name) and candidate.exists():
                    found.setdefault(file.name, candidate)
    return found


def _roots() -> list[Path]:
    roots = [Path(named)] if (named := os.environ.get(ENV_FOLDER)) else []
    project = registry_path().parent.parent
    roots += [project / local for local in load_registry().local]
    return [*roots, cache_folder()]


def validate(name: str, path: str | Path | None = None) -> list[FileState]:
    """The state of each file of a benchmark; with `path` the file or folder given is looked at instead."""
    entry = show_dataset(name)
    files = given_files(Path(path), entry) if path is not None else find_files(name)
    wanted = {file.name: file.sha256 for file in entry.files} or dict.fromkeys(files, "")
    out = []
    for file in {**wanted, **dict.fromkeys(files, "")} if path is not None else wanted:
        place, expected = files.get(file), wanted.get(file, "")
        actual = file_sha256(place) if place is not None else ""
        if place is None:
            if path is not None:
                continue
            state: Literal["ok", "missing", "wrong hash", "not checked"] = "missing"
        elif not expected:
            state = "not checked"
        else:
            state = "ok" if actual == expected else "wrong hash"
        out.append(FileState(dataset=name, name=file, path=str(place or ""), state=state, sha256=actual))
    return out


def given_files(path: Path, entry: Entry) -> dict[str, Path]:
    """What a caller's path stands for: a file as itself, a folder as the registered files in it, else the folder."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_file():
        names = [file.name for file in entry.files]
        beside = {n: path.parent / n for n in names if len(names) > 1 and (path.parent / n).is_file()}
        return beside if path.name in beside else {path.name: path}
    inside = {file.name: path / file.name for file in entry.files if (path / file.name).is_file()}
    return inside or {path.name: path}


def get(name: str) -> dict[str, Path]:
    """Download what is missing with a checked hash; files that are here and right are left alone."""
    entry = show_dataset(name)
    if not entry.files and not entry.folder:
        raise DataError(
            f"{name}: there is nothing to fetch, the file is yours; `smartmem data template` writes an example"
        )
    have = find_files(name)
    for file in entry.files:
        if file.name in have:
            check(have[file.name], file.sha256)
            continue
        if not file.sha256:
            raise DataError(
                f"{name}: nobody has recorded a SHA-256 of {file.name}, so it is not downloaded unchecked. "
                f"Fetch {file.url or 'it'} yourself and give its path, or add the hash to {registry_path()}"
            )
        have[file.name] = _download(name, file)
    return have


def _download(name: str, file: FileEntry) -> Path:
    try:
        import pooch
    except ImportError:
        raise MissingExtra("pooch", "eval") from None
    from requests.exceptions import RequestException

    folder = cache_folder() / name
    try:
        made = pooch.retrieve(file.url, known_hash=f"sha256:{file.sha256}", path=folder, fname=file.name)
    except ValueError as error:  # what pooch raises for a wrong hash
        raise DataError(f"{file.url}: {error}; the source has changed: check it, then correct the registry") from None
    except (RequestException, OSError) as error:
        raise DataError(f"{file.url} cannot be fetched ({error}); fetch it by hand into {folder}") from None
    return Path(made)


def check(path: Path, expected: str) -> bool:
    """Whether the hash was checked; `ChecksumMismatch` when it is another. An empty expectation checks nothing."""
    if not expected:
        return False
    actual = file_sha256(path)
    if actual != expected:
        raise ChecksumMismatch(str(path), expected, actual)
    return True


def file_sha256(path: Path) -> str:
    """Of a file, or of all files below a folder with their relative names."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if _is_read(p))
    for file in files:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _is_read(path: Path) -> bool:
    """Whether a file of a folder holds data; what is written about it may change."""
    return path.is_file() and path.suffix in _READ and path.name != "README.md"


def load_dataset(name: str, path: str | Path | None = None, *, limit: int | None = None) -> Dataset:
    """A benchmark by its registered name, from `path` (a file or folder) where one is given.

    `limit` reads the first so many records only. Raises `DataError` when a file is missing, `ChecksumMismatch` when a
    file found by name is not the registered one, `BadRecord` with file, record and field when one cannot be used.
    """
    entry = show_dataset(name)
    checked = path is None and bool(entry.files)
    if path is not None:
        files = given_files(Path(path), entry)
    else:
        files = find_files(name)
        wanted = [file.name for file in entry.files] or ([entry.folder] if entry.folder else [])
        missing = [file for file in wanted if file not in files]
        if missing or not wanted:
            raise DataError(
                f"dataset {name!r}: {', '.join(missing) or 'its file'} is not on this machine; "
                f"run `smartmem data get {name}`, set {ENV_FOLDER} to the folder that holds it, or give its path"
            )
        for file in entry.files:
            checked = check(files[file.name], file.sha256) and checked
    hashes: Mapping[str, str] = {file: file_sha256(place) for file, place in files.items()}
    made = _LOADERS[entry.loader](files, limit)
    require_unique_ids(list(files.values()), made.conversations, made.queries)
    joined = "\n".join(f"{file} {sha}" for file, sha in sorted(hashes.items()))
    return Dataset(
        name=name,
        conversations=tuple(made.conversations),
        queries=tuple(made.queries),
        notes=tuple(made.notes),
        # One file is known by its own hash, several by the hash of their list, a part of a file by the part too.
        sha256=_of(joined, hashes, limit),
        licence=entry.licence,
        hash_checked=checked,
        text_in_reports=entry.text_in_reports,
        files=hashes,
    )


def _of(joined: str, hashes: Mapping[str, str], limit: int | None) -> str:
    whole = next(iter(hashes.values())) if len(hashes) == 1 else hashlib.sha256(joined.encode()).hexdigest()
    return whole if limit is None else f"{whole}[:{limit}]"
