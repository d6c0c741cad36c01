"""docker-compose.yml and its Dockerfile, as far as they can be checked without a container engine.

The schema is the Compose specification's own (compose-spec, Apache-2.0), read from the package check-jsonschema, which
carries a copy: so it is pinned in constraints.txt and no file of another project lies in this repository.
"""

import copy
import importlib.metadata
import inspect
import itertools
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from smartmem.rag import registry

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()

PROFILES = {
    "mysql": {"core", "lab"},
    "worker": {"core"},
    "volume-owner": {"milvus"},
    "etcd": {"milvus"},
    "minio": {"milvus"},
    "milvus": {"milvus"},
    "attu": {"milvus"},
    "jupyterlab": {"lab"},
}
ONE_SHOT = {"volume-owner"}
SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|ROOT_USER|ACCESS_KEY")
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?P<rest>[^}]*)\}")


def strings(value: Any) -> Iterator[str]:
    """Every string below a value: where compose replaces variables."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def variables() -> dict[str, set[str]]:
    """Name of each variable of the compose file → the ways in which it is written behind its name."""
    found: dict[str, set[str]] = {}
    for text in strings(COMPOSE):
        for match in VARIABLE.finditer(text):
            found.setdefault(match["name"], set()).add(match["rest"])
    return found


def example() -> dict[str, str]:
    """.env.example as name → value."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def schema_validator() -> jsonschema.Draft202012Validator:
    package = importlib.metadata.distribution("check-jsonschema")  # found without importing its command line
    file = Path(str(package.locate_file("check_jsonschema/builtin_schemas/vendor/compose-spec.json")))
    return jsonschema.Draft202012Validator(json.loads(file.read_text()))


def test_valid_by_the_compose_specification() -> None:
    errors = [f"{error.json_path}: {error.message}" for error in schema_validator().iter_errors(COMPOSE)]
    assert errors == []


def test_the_schema_would_notice() -> None:
    wrong = copy.deepcopy(COMPOSE)
    wrong["services"]["mysql"]["healtcheck"] = {}
    assert not schema_validator().is_valid(wrong)


def test_services_and_profiles() -> None:
    assert {name: set(service["profiles"]) for name, service in SERVICES.items()} == PROFILES


@pytest.mark.parametrize("name", SERVICES)
def test_a_profile_holds_all_that_its_services_need(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        condition = "service_completed_successfully" if needed in ONE_SHOT else "service_healthy"
        assert how["condition"] == condition, f"{name} waits for {needed} in the wrong way"
        if how.get("required", True):
            assert PROFILES[name] <= PROFILES[needed], f"{needed} is missing in a profile of {name}"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    if name in ONE_SHOT:
        assert check == {"disable": True}
    else:
        assert check["test"][0] in {"CMD", "CMD-SHELL"}
        assert {"interval", "timeout", "retries"} <= check.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_only_the_one_shot_runs_as_root(name: str) -> None:
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert (service["network_mode"], service["cap_add"]) == ("none", ["CHOWN"])
    elif "build" in service:
        target = DOCKERFILE.split(f" AS {service['build']['target']}")[0]
        assert re.findall(r"^USER (\S+)", target, re.MULTILINE)[-1] == "smartmem"
    else:
        assert service["user"].split(":")[0] not in {"0", "root"}


@pytest.mark.parametrize("name", SERVICES)
def test_hardened(name: str) -> None:
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]
    assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert "privileged" not in SERVICES[name]


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_on_loopback(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:"), f"{name} publishes {port} to every interface"


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    service = SERVICES[name]
    tag = service["image"].partition(":")[2]
    assert "build" in service or (tag and tag != "latest"), f"{name} takes whatever {service['image']} is today"


def test_volumes_are_named_and_declared() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", SERVICES)
def test_no_literal_secret(name: str) -> None:
    for key, value in SERVICES[name].get("environment", {}).items():
        if SECRET.search(key):
            assert VARIABLE.fullmatch(value), f"{name}: {key} is written out"


def test_a_secret_has_no_default_and_the_rest_has_the_example_s() -> None:
    values = example()
    for name, ways in variables().items():
        if SECRET.search(name) or name == "SMARTMEM_STORE":
            assert ways == {":?set it in .env"}, f"{name} must be set by the user"
        else:
            assert ways == {f":-{values[name]}"}, f"{name}: compose and .env.example differ"
        if SECRET.search(name):
            assert values[name] == "", f".env.example gives {name} a value that people will keep"


def test_env_example_lists_every_variable_and_nothing_else() -> None:
    assert set(example()) == set(variables())


def test_env_example_explains_every_variable() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    for before, line in itertools.pairwise(lines):
        if line and not line.startswith("#"):
            assert before.startswith("# "), f"{line.split('=')[0]} has no comment above it"


def test_store_of_the_example_is_json() -> None:
    (value,) = shlex.split(example()["SMARTMEM_STORE"])
    # Checked against what the store really takes: an option that it does not know stops the worker at its start.
    for text in (value, *re.findall(r"#\s+'(\{.*\})'", (ROOT / ".env.example").read_text())):
        spec = json.loads(text)
        taken = inspect.signature(registry.component("store", spec.pop("name"))).parameters
        assert set(spec) <= set(taken)


def test_images_install_with_the_constraints_and_existing_extras() -> None:
    assert "pip install -c constraints.txt" in DOCKERFILE
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    values = example()
    for name in ("SMARTMEM_WORKER_EXTRAS", "SMARTMEM_LAB_EXTRAS"):
        assert set(values[name].split(",")) <= extras
    defaults = re.findall(r"^ARG EXTRAS=(\S+)", DOCKERFILE, re.MULTILINE)
    assert defaults == [values["SMARTMEM_WORKER_EXTRAS"]]


def test_what_the_dockerfile_copies_exists_and_is_not_ignored() -> None:
    ignore = (ROOT / "docker" / "Dockerfile.dockerignore").read_text().split("\n")
    for line in re.findall(r"^COPY (?:--\S+ )?(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for source in line.split():
            assert (ROOT / source).exists(), f"docker/Dockerfile copies {source}, which is not there"
            assert f"!{source}" in ignore, f"{source} is left out by Dockerfile.dockerignore"
    assert not any(entry.startswith("!.env") for entry in ignore)
