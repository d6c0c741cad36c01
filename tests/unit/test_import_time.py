"""What may be loaded when: `import smartmem` and the command line stay quick because they load little.

No clock: seconds differ from machine to machine, the list of modules does not.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import smartmem

PACKAGE = Path(smartmem.__file__).parent
# What costs a tenth of a second or more to import, or belongs to an extra.
HEAVY = frozenset(
    {
        "IPython", "alembic", "chonkie", "distributed", "fastapi", "mcp", "starlette", "uvicorn",
        "ipywidgets", "jieba", "jinja2", "joblib",
        "json_repair", "matplotlib", "milvus_lite", "numpy", "onnxruntime", "openai", "opentelemetry",
        "pandas", "peft", "pooch", "prometheus_client", "pyarrow", "pymilvus", "pymysql", "ragas", "scipy",
        "semchunk", "sentence_transformers", "sqlalchemy", "tokenizers", "torch", "trafilatura",
        "transformers",
    }
)  # fmt: skip
# Core packages that a module may import at its top; what is left of HEAVY belongs into functions.
CORE = frozenset({"numpy", "sqlalchemy", "alembic"})


def loaded_by(code: str) -> set[str]:
    """The top-level modules that are loaded after `code`, in an interpreter of its own."""
    ask = f"import sys, json\n{code}\nprint(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_smartmem_loads_nothing_heavy() -> None:
    new = loaded_by("import smartmem") - loaded_by("")
    assert not new & HEAVY
    assert not new & {"pydantic", "typer", "rich", "httpx"}


def test_help_loads_no_database_no_arrays_and_no_extra() -> None:
    code = "import smartmem.cli.app as m, typer.testing as t; t.CliRunner().invoke(m.app, ['--help'])"
    assert not loaded_by(code) & HEAVY


@pytest.mark.parametrize(
    "module", ["smartmem.workbench", "smartmem.evaluation.runner", "smartmem.evaluation.compare", "smartmem.viz"]
)
def test_rooms_load_no_extra(module: str) -> None:
    assert not loaded_by(f"import {module}") & (HEAVY - CORE)


@pytest.mark.parametrize(
    "file", [pytest.param(f, id=f.relative_to(PACKAGE).as_posix()) for f in sorted(PACKAGE.rglob("*.py"))]
)
def test_no_module_imports_an_extra_at_its_top(file: Path) -> None:
    """The whole rule on the source: what runs at import names no package of an extra."""
    found = sorted(set(at_import(ast.parse(file.read_text("utf-8")).body)) & (HEAVY - CORE))
    assert not found, f"{file}: import {', '.join(found)} inside the function that needs it"


def at_import(body: list[ast.stmt]) -> list[str]:
    """Top-level packages imported by statements that run at import: not in functions, not under TYPE_CHECKING."""
    names: list[str] = []
    for node in body:
        match node:
            case ast.Import():
                names += [alias.name.partition(".")[0] for alias in node.names]
            case ast.ImportFrom(module=str(module)):
                names.append(module.partition(".")[0])
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                names += at_import(node.orelse)
            case ast.If() | ast.For() | ast.While():
                names += at_import(node.body) + at_import(node.orelse)
            case ast.Try():
                names += at_import(node.body) + at_import(node.orelse) + at_import(node.finalbody)
                names += [name for handler in node.handlers for name in at_import(handler.body)]
            case ast.ClassDef() | ast.With():
                names += at_import(node.body)
    return names
