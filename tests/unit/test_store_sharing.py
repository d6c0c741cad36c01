"""Stores that several processes or several users of one process want at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from smartmem.errors import ConfigError, StoreUnavailable
from smartmem.rag.registry import create
from smartmem.rag.types import Chunk, Filter

OTHER = """
import sys, numpy as np
from smartmem.rag.registry import create
from smartmem.rag.types import Chunk, Filter
store = create("store", {"name": sys.argv[1], "path": sys.argv[2]}, dim=4)
store.upsert([Chunk(id="theirs", document_id="d", start=0, end=1, text="x", order=0)], np.eye(4, dtype="f4")[:1])
store.delete(["ours"])
print(store.count(Filter()))
store.close()
"""


def ours() -> Chunk:
    return Chunk(id="ours", document_id="d", start=0, end=1, text="x", order=0)


def other_process(kind: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", OTHER, kind, str(path)], capture_output=True, text=True, timeout=60)


def test_a_memory_file_shows_what_another_process_wrote(tmp_path: Path) -> None:
    store = create("store", {"name": "memory", "path": str(tmp_path / "v.db")}, dim=4)
    store.upsert([ours()], np.eye(4, dtype=np.float32)[1:2])
    done = other_process("memory", tmp_path / "v.db")
    assert done.stdout.strip() == "1", done.stderr
    assert [hit.chunk.id for hit in store.search(np.eye(4, dtype=np.float32)[0], 5, Filter())] == ["theirs"]
    store.close()


def test_a_forgotten_text_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "v.db"
    store = create("store", {"name": "memory", "path": str(path)}, dim=4)
    secret = Chunk(id="a", document_id="d", start=0, end=9, text="top-secret-words", order=0)
    store.upsert([secret], np.eye(4, dtype=np.float32)[:1])
    store.delete(["a"])
    store.close()
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"top-secret-words" not in left


def test_a_milvus_folder_in_use_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lite"
    store = create("store", {"name": "milvus", "path": str(path)}, dim=4)
    done = other_process("milvus", path)
    store.close()
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "StoreUnavailable" in last
    assert str(path) in last
    assert "in use by another process" in last
    assert "milvus-lite server" in last
    assert other_process("milvus", path).stdout.strip() == "1"  # closing freed the lock


def test_two_users_of_one_milvus_folder_in_one_process(tmp_path: Path) -> None:
    path = str(tmp_path / "lite")
    first = create("store", {"name": "milvus", "path": path}, dim=4)
    second = create("store", {"name": "milvus", "path": path}, dim=4)
    first.upsert([ours()], np.eye(4, dtype=np.float32)[:1])
    first.close()
    assert second.count(Filter()) == 1
    second.close()


def test_an_alias_switches_to_the_re_embedded_collection(tmp_path: Path) -> None:
    path = str(tmp_path / "lite")
    for dim, name in ((4, "first"), (8, "second")):
        store = create("store", {"name": "milvus", "path": path, "collection": name}, dim=dim)
        store.upsert([ours()], np.eye(dim, dtype=np.float32)[:1])
        store.take_alias("current")
        store.close()
        opened = create("store", {"name": "milvus", "path": path, "collection": "current"}, dim=dim)
        assert opened.count(Filter()) == 1
        opened.close()


def test_a_server_that_is_down_is_named() -> None:
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1.*is the server up"):
        create("store", {"name": "milvus", "uri": "http://127.0.0.1:1", "timeout_s": 2}, dim=4)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        create("store", {"name": "milvus", "path": str(tmp_path / "file" / "lite")}, dim=4)
    with pytest.raises(StoreUnavailable, match="choose another path"):
        create("store", {"name": "memory", "path": str(tmp_path / "file" / "v.db")}, dim=4)


@pytest.mark.parametrize("spec", [{}, {"path": "a", "uri": "b"}, {"path": "a", "index": "IVF"}])
def test_options_that_cannot_be(spec: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="milvus"):
        create("store", {"name": "milvus", **spec}, dim=4)
