"""environment.yml, constraints.txt and pyproject.toml tell one story.

The conda solve itself is untested: no conda channel can be reached from the machines that run this. What conda would
be asked is parsed by py-rattler, the library under pixi and rattler-build, and by YAML.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import rattler
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
ENVIRONMENT: dict[str, Any] = yaml.safe_load((ROOT / "environment.yml").read_text())
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = {"(core)": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}


def pins() -> dict[str, Version]:
    """constraints.txt as name → the one version."""
    found: dict[str, Version] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", f"constraints.txt: {line} is no pin"
        name = canonicalize_name(requirement.name)
        assert name not in found, f"constraints.txt pins {name} twice"
        found[name] = Version(specifier.version)
    return found


def conda_specs() -> list[rattler.MatchSpec]:
    plain = [item for item in ENVIRONMENT["dependencies"] if isinstance(item, str)]
    return [rattler.MatchSpec(item, strict=True) for item in plain]


def test_conda_brings_python_and_pip_only() -> None:
    names = [spec.name.normalized for spec in conda_specs() if spec.name is not None]
    assert names == ["python", "pip"]
    assert [rattler.Channel(name).name for name in ENVIRONMENT["channels"]] == ["conda-forge"]


def test_conda_s_python_is_one_that_the_project_supports() -> None:
    python = str(conda_specs()[0].version)
    assert python == "3.11.*"
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.replace("*", "0"))


def test_pip_part_is_the_project_with_the_constraints_file() -> None:
    (pip,) = [item["pip"] for item in ENVIRONMENT["dependencies"] if isinstance(item, dict)]
    assert pip == ["-c constraints.txt", "-e .[all]"]


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_requirement_is_pinned_within_its_range(extra: str) -> None:
    pinned = pins()
    for text in EXTRAS[extra]:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name == PROJECT["name"]:
            assert requirement.extras <= EXTRAS.keys(), f"{extra} names an extra that does not exist: {text}"
            continue
        assert name in pinned, f"{extra}: {name} is not in constraints.txt; run `make lock`"
        assert requirement.specifier.contains(pinned[name], prereleases=True), (
            f"{extra}: {text} does not allow {name} {pinned[name]} of constraints.txt; run `make lock`"
        )


def test_all_means_all() -> None:
    (everything,) = [Requirement(text) for text in EXTRAS["all"]]
    assert everything.extras == EXTRAS.keys() - {"(core)", "all", "demo"}


def test_makefile_installs_with_the_same_file() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"pip install\b.* -c constraints\.txt", makefile)
