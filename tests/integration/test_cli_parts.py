"""Single parts measured from the command line: plan, chunkers, memory, gating, answers, the write path in a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smartmem.evaluation.datasets import load_dataset
from tests.support.cli import Cli
from tests.support.data import ROOT
from tests.support.openai_server import OpenAIServer, not_json

SUITE = """
name = "s"
baseline = "bm25"
metrics = ["nDCG@10"]
resamples = 200
latency_queries = 0
limit_queries = 40
cache = "cache"
[[datasets]]
name = "smartmem-tiny"
[[arms]]
name = "bm25"
retriever = "bm25"
"""
BROKEN = '[[arms]]\nname = "lost"\nembedder = { name = "onnx", model = "no-such-model" }\nretriever = "dense"\n'


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMARTMEM_REGISTRY", str(ROOT / "data" / "registry.toml"))
    (tmp_path / "smartmem.toml").write_text('embedder = { name = "mock" }\n', "utf-8")
    return Cli(capsys)


def test_an_arm_without_its_model_is_named_by_plan_and_run_and_the_status_is_1(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(SUITE + BROKEN, "utf-8")
    planned = cli("eval", "plan", "s.toml", "--json")
    assert planned.status == 1
    costs = {cell["arm"]: cell for cell in planned.json}
    assert costs["bm25"]["queries_to_run"] == 40
    assert "no-such-model" in costs["lost"]["error"]
    assert "bge-small-en" in costs["lost"]["error"]
    ran = cli("eval", "run", "s.toml", "--out", "r", "--json")
    assert ran.status == 1
    assert list(ran.json["errors"]) == ["smartmem-tiny/lost"]
    assert ran.json["metrics"]["smartmem-tiny"]["bm25"]["nDCG@10"]["scored"] > 20
    assert ran.json["metrics"]["smartmem-tiny"]["lost"]["nDCG@10"]["not_run"] == 40
    assert cli.ok("eval", "plan", "s.toml", "--arm", "bm25", "--json").json[0]["queries_to_run"] == 0


def test_an_unknown_key_of_an_arm_names_those_of_arms(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(SUITE + 'embeder = "mock"\n', "utf-8")
    ran = cli("eval", "run", "s.toml")
    assert ran.status == 2
    assert "arms.0.embeder = 'mock': unknown key; known are: name, chunker, embedder," in ran.err


def test_the_write_path_stands_in_the_report_and_stays_when_it_is_written_again(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(SUITE, "utf-8")
    cli.ok("eval", "run", "s.toml", "--out", "r")
    assert "Write path" not in (tmp_path / "r" / "report.html").read_text("utf-8")
    assert cli("eval", "write-path", "--database", "sqlite:///none.db").status != 0
    assert not (tmp_path / "none.db").exists()
    lines = ["My name is Ann.", "I live in Oslo."]
    for number, text in enumerate(lines):
        said = {"conversation_id": "c", "user_id": 3, "role": "user", "content": text, "client_message_id": str(number)}
        with (tmp_path / "chat.jsonl").open("a") as file:
            file.write(json.dumps(said | {"occurred_at": "2026-01-01T00:00:00Z"}) + "\n")
    url = f"sqlite:///{tmp_path / 'site.db'}"
    cli.ok("import", "chat.jsonl", "--database", url)
    cli.ok("work", "--drain", "--database", url)
    found = cli.ok("eval", "write-path", "--database", url, "--json").json
    assert found["jobs"] == found["by_state"]["success"] >= 2
    assert {"success", "processing", "seconds"} <= set(found["throughput"])
    assert found["message_to_memory_s"]["p95"] > 0
    cli.ok("eval", "report", "r", "--write-path", url)
    cli.ok("eval", "report", "r")
    page = (tmp_path / "r" / "report.html").read_text("utf-8")
    assert f"{found['jobs']} jobs in" in page
    assert "throughput by state over time" in page
    assert (tmp_path / "r" / "charts" / "write-throughput.png").exists()
    cli.ok("eval", "run", "s.toml", "--out", "r")  # another run has another write path, or none
    assert "Write path" not in (tmp_path / "r" / "report.html").read_text("utf-8")


def test_no_answer_gating_from_a_run(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(SUITE.replace("limit_queries = 40\n", ""), "utf-8")
    cli.ok("eval", "run", "s.toml", "--out", "r")
    found = cli.ok("eval", "gating", "r", "--json").json
    curve = found["arms"]["bm25"]
    assert curve["answerable"] == 116
    assert curve["unanswerable"] == 28
    assert 0 <= curve["reported"]["answered"] <= 1
    assert "AUC" in cli.ok("eval", "gating", "r", "--arm", "bm25").out
    assert "Questions without an answer" in (tmp_path / "r" / "report.html").read_text("utf-8")
    assert "no arm 'x'" in cli("eval", "gating", "r", "--arm", "x").err


def test_chunkers_by_spans_on_dialogues_and_on_documents(cli: Cli) -> None:
    words = ("eval", "chunkers", "--chunker", "fixed size=200 overlap=0", "--chunker", "sentence")
    found = cli.ok(*words, "--json").json["datasets"]
    assert set(found) == {"smartmem-tiny", "smartmem-web"}
    for rows in found.values():
        fixed, sentence = rows["fixed size=200 overlap=0"], rows["sentence"]
        assert fixed["cut"]["mean"] > sentence["cut"]["mean"]  # a border each 200 characters runs through sentences
        for figure in ("recall", "precision", "iou", "token_recall", "token_iou", "precision_omega"):
            assert 0 < fixed[figure]["lo"] <= fixed[figure]["mean"] <= fixed[figure]["hi"] <= 1
    assert "takes no option 'siz'" in cli("eval", "chunkers", "--chunker", "fixed siz=2").err


def test_the_document_set_holds_every_gold_sentence() -> None:
    data = load_dataset("smartmem-web")
    texts = {key: turn.text for key, _, turn in data.turns()}
    assert {"sessions": 79, "queries": 50, "eligible": 50}.items() <= data.counts().items()
    for query in data.queries:
        assert all(texts[span.turn][span.start : span.end].strip() for span in query.spans)
    assert len(load_dataset("smartmem-web", limit=3).queries) == 3


def test_extraction_and_decisions(cli: Cli) -> None:
    found = cli.ok("eval", "memory", "--split", "odd", "--json").json
    assert found["extraction"]["threshold"] == 0.5
    assert 0.5 < found["extraction"]["f1"]["value"] < 1
    assert found["extraction"]["precision"]["lo"] < found["extraction"]["precision"]["hi"]
    made = sum(count for row in found["decisions"]["confusion"].values() for count in row.values())
    assert made == found["decisions"]["accuracy"]["count"]
    table = cli.ok("eval", "memory", "--extractor", "mock", "--threshold", "0.8").out
    assert "gold \\ made" in table
    assert "unknown extractor 'nope'" in cli("eval", "memory", "--extractor", "nope").err
    assert cli("eval", "memory", "--split", "third").status == 2


ANSWERS = [
    {"id": "1", "question": "Where?", "response": "in Leeds", "reference": "Leeds", "context_ids": ["a"],
     "reference_ids": ["a", "b"], "human": 1},
    {"id": "2", "response": "no", "reference": "yes"},
]  # fmt: skip


@pytest.mark.filterwarnings(r"ignore:Exception ignored in.*ragas/uuid\.json:pytest.PytestUnraisableExceptionWarning")
def test_answers_by_ragas_count_what_could_not_be_read(cli: Cli, tmp_path: Path, openai_server: OpenAIServer) -> None:
    pytest.importorskip("ragas", reason="ragas is not installed: pip install 'smartmem[ragas]'")
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in ANSWERS), "utf-8")
    found = cli.ok("eval", "answers", file, "--json").json
    assert found["id_context_recall"]["mean"] == 0.5
    assert found["id_context_recall"]["counts"] == {"scored": 1, "ineligible": 1, "failed": 0, "not_run": 0}
    openai_server.chat.default = not_json()
    ran = cli.ok(
        "eval", "answers", file, "--metric", "answer_accuracy", "--judge", "m", "--base-url", openai_server.base_url
    )
    assert "failed: answer_accuracy, sample 1" in ran.out
    assert "--judge NAME" in cli("eval", "answers", file, "--metric", "faithfulness").err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "x"}', "line 2, field id: is missing"),
        ('{"id": "2", "contexts": "x"}', "line 2, field contexts: is a string, expected a list"),
        ('{"id": "2", "contexts": [3]}', "line 2, field contexts[0]: is a number, expected a string"),
        ('{"id": "2", "human": "good"}', "line 2, field human: is 'good', expected a number"),
        ('{"id": "2", "anser": "x"}', "line 2, field anser: is unknown; known are: id, question"),
        ('{"id": "1"}', "line 2, field id: is '1', which another line has"),
    ],
)
def test_a_broken_answer_is_named(cli: Cli, tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"id": "1"}}\n{line}\n', "utf-8")
    ran = cli("eval", "answers", "a.jsonl")
    assert ran.status == 2
    assert message in ran.err


def test_validate_never_tells_to_delete_a_file_of_the_user_s_own(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    registry = tmp_path / "data" / "registry.toml"
    registry.write_text(
        'local = ["files"]\n[datasets.mine]\nloader = "jsonl"\ntitle = "t"\nlicence = "l"\nuse = "u"\n'
        f'files = [{{ name = "mine.jsonl", sha256 = "{"0" * 64}", url = "" }}]\n',
        "utf-8",
    )
    monkeypatch.setenv("SMARTMEM_REGISTRY", str(registry))
    cli.ok("data", "template", "mine.jsonl")
    given = cli("data", "validate", "mine", "--file", "mine.jsonl")
    assert given.status == 1
    assert "mine.jsonl: wrong hash" in given.out
    assert "13 turns" in given.out, "a file of one's own is read all the same"
    assert 'path = "mine.jsonl"' in given.out
    (tmp_path / "files").mkdir()
    (tmp_path / "mine.jsonl").rename(tmp_path / "files" / "mine.jsonl")
    found = cli("data", "validate", "mine")
    assert found.status == 1
    assert "move" in found.out
    assert "delete" not in given.out + found.out


def test_validate_reads_every_record(cli: Cli, tmp_path: Path) -> None:
    ran = cli.ok("data", "validate", "smartmem-tiny", "--json")
    assert ran.json["ok"]
    assert ran.json["counts"]["turns"] == 638
    cli.ok("data", "template", "chats.jsonl")
    assert (
        "13 turns and 8 questions (7 with gold); repaired 0"
        in cli.ok("data", "validate", "jsonl", "--file", "chats.jsonl").out
    )
    lost = cli("data", "validate", "realtalk")
    assert lost.status == 1
    assert "realtalk: missing" in lost.out
    chats = (tmp_path / "chats.jsonl").read_text("utf-8")
    (tmp_path / "chats.jsonl").write_text(chats.replace('["m1"]', '["m9"]'), "utf-8")
    broken = cli("data", "validate", "jsonl", "--file", "chats.jsonl")
    assert broken.status == 2
    assert "line 4, field relevant[0]: is 'm9'" in broken.err
    assert "nothing to fetch" in cli("data", "get", "jsonl").err
