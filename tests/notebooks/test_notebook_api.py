"""What notebooks hold in their hands: charts, tables of every answer, questions asked of a memory store."""

from __future__ import annotations

import datetime as dt
import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import smartmem
from smartmem.clock import UTC
from smartmem.errors import ConfigError, MissingExtra, MissingModel, Unmeasurable
from smartmem.evaluation.asked import ask_memories, rates
from smartmem.evaluation.datasets.registry import find_files, load_dataset
from smartmem.evaluation.results import load_run
from smartmem.memory.explain import lineage
from smartmem.memory.forget import forget
from smartmem.memory.govern import list_memories
from smartmem.memory.recall import Recaller
from smartmem.rag.pipeline import _KEYS, Pipeline
from smartmem.rag.types import Document
from smartmem.settings import Settings
from smartmem.viz import job_states, lineage_graph, memory_timeline, metric_bars
from smartmem.viz.notebook import Chart, draw, draw_many, lineage_rows, timeline
from smartmem.workbench import JobHistory, TurnHits, Workbench
from tests.support.net import poll


START, HOUR = dt.datetime(2026, 1, 1, tzinfo=UTC), dt.timedelta(hours=1)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    with smartmem.open(f"sqlite:///{tmp_path_factory.mktemp('api')}/api.db", embedder={"name": "mock"}) as made:
        made.append(user_id=1, conversation_id="c<1>", role="user", content="I live in <b>Leeds</b> now.")
        made.import_file(find_files("smartmem-tiny")["data/tiny"] / "dialogues.jsonl", "tiny")
        made.drain()
        yield made


def size(chart: Chart) -> tuple[int, int]:
    return int.from_bytes(chart.png[16:20]), int.from_bytes(chart.png[20:24])


def test_a_chart_is_a_png_of_fixed_size_with_words() -> None:
    means = {"a": {"mean": 0.5, "lo": 0.4, "hi": 0.6}}
    chart = draw(metric_bars, means, title="Means")
    data, metadata = chart._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert size(chart) == (936, 520)
    assert (repr(chart), metadata["image/png"]) == ("Chart('Means')", {"alt": "Means"})
    assert draw(metric_bars, means, title="Means").png == chart.png


def test_panels_fill_a_grid_and_leave_the_rest_empty() -> None:
    def panel(ax: object) -> None:
        metric_bars(ax, {"a": {"mean": 0.5, "lo": 0.4, "hi": 0.6}}, "Means")  # type: ignore[arg-type]

    assert size(draw_many(panel, panel, panel, alt="three", columns=2)) == (936, 520)
    assert size(draw_many(panel, alt="one", size=(4, 3))) == (520, 390)


def test_every_answer_is_a_table(bench: Workbench) -> None:
    found = bench.recall(1, "Where do I live?")
    assert list(found.to_frame()["conversation_id"]) == ["c<1>"]
    for answer in (bench, bench.status(), bench.drain(), found, bench.job_history()):
        html = answer._repr_html_()
        assert "<table" in html
        assert "<b>Leeds" not in html, "text of a message is text, never markup"
    imported = bench.import_file(find_files("smartmem-tiny")["data/tiny"] / "dialogues.jsonl", "tiny")
    assert imported.to_frame().loc[0, "added"] == 0


def test_memories_reasons_hits_and_runs_are_tables_too(bench: Workbench) -> None:
    page, why = bench.memories(1), bench.explain(1, "Where do I live?")
    hits = bench.inspect_turns(1, "Leeds", chunker="turn", retriever="bm25")
    assert page.to_frame().loc[0, "content"] == page.items[0].content
    assert list(why.to_frame()["code"]) == ["INJECTED"]
    assert hits.to_frame()["rank"].tolist() == list(range(1, len(hits.hits) + 1))
    assert hits.to_frame().loc[0, "conversation_id"] == "c<1>"
    for answer in (page, page.items[0], why, hits):
        assert "<b>Leeds" not in answer._repr_html_(), "text of a message is text, never markup"
        assert "Leeds" in answer._repr_html_()
    nothing = bench.inspect_turns(999, "Leeds", chunker="turn", retriever="bm25")
    assert list(nothing.to_frame().columns) == ["rank", "score", "document_id", "chunk_id", "text"]
    run = load_run(Path(__file__).parents[2] / "eval/reports/example")
    assert run.to_frame()["arm"].tolist() == [row["arm"] for row in run.table()]
    assert "<table" in run._repr_html_()


def test_what_writing_and_mending_answer_are_tables_too(bench: Workbench) -> None:
    added = bench.append(
        user_id=7, conversation_id="c7", role="user", content="I live in <i>York</i> now.", client_message_id="m1"
    )
    bench.drain()
    assert added.to_frame().loc[0, "message_id"] == added.message_id
    (item,) = bench.memories(7).items
    steps = bench.lineage(7, item.id)
    assert steps.to_frame()["stage"].tolist() == [step.stage for step in steps]
    assert steps[-1].stage == "vector"
    assert steps.to_frame()["id"].tolist()[0] == added.message_id
    said = bench.messages(7)
    assert said.to_frame()["content"].tolist() == ["I live in <i>York</i> now."]
    drift = bench.reconcile(dry_run=True)
    assert drift.to_frame().loc[0, "checked"] == drift.checked > 0
    differing = bench.diff("main", "empty", user_id=7)
    assert differing.to_frame()["only_a"].tolist() == [item.content]
    forgotten = forget(bench.db, 7, item.id, store=bench.store)
    assert forgotten.to_frame().loc[0, "items"] == 1
    for answer in (added, item, steps, said, drift, differing, forgotten):
        html = answer._repr_html_()
        assert "<i>" not in html, "text of a message is text, never markup"
    assert bench.diff("a", "b")._repr_html_().count("<td>") == 0


def test_answers_are_shown_without_pandas(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jupyter with the core alone: a table of HTML; only a frame asks for the extra."""
    answers = [bench.status(), bench.recall(1, "Where do I live?"), bench.memories(101), bench.job_history(), bench]
    monkeypatch.setitem(sys.modules, "pandas", None)
    for answer in answers:
        assert "<td>" in answer._repr_html_()
    with pytest.raises(MissingExtra, match="pandas"):
        bench.status().to_frame()


def test_jobs_and_events_are_tables_too(bench: Workbench) -> None:
    job, *_ = jobs = bench.jobs.list(user_id=1)
    assert jobs.to_frame().loc[0, "id"] == job.id
    assert "payload" in jobs.to_frame(), "the frame has all of it"
    for rows in (jobs, bench.outbox.list(limit=3)):
        assert "Leeds" not in rows._repr_html_(), "what people do not read is left out of the table"
        assert "<td>" in rows._repr_html_()
    for queue in (bench.jobs, bench.outbox):
        assert "unfinished" in queue._repr_html_()
    assert bench.jobs.list(user_id=999)._repr_html_().count("<td>") == 0


def test_memories_are_changed_by_calls_of_the_workbench(bench: Workbench) -> None:
    bench.append(user_id=8, conversation_id="c8", role="user", content="I live in Porto now.")
    bench.drain()
    (item,) = bench.memories(8).items
    edited = bench.edit(8, item.id, version=item.version, content="I live in Lisbon now.")
    assert bench.memory(8, item.id).content == edited.content == "I live in Lisbon now."
    assert bench.delete(8, item.id).status == "deleted"
    assert bench.recall(8, "Where do I live?").items == ()
    assert bench.restore(8, item.id).status == "active"
    assert (bench.expire(user_id=8), bench.dedupe(8)) == (0, ())
    off = bench.set_user_settings(8, memory_enabled=False)
    assert off == bench.user_settings(8)
    assert "memory_enabled" in off.to_frame()
    assert bench.explain(8, "Where do I live?").to_frame()["code"].tolist() == ["SETTING_BLOCKED"]
    assert bench.forget(8, item.id).items == 1
    assert bench.memories(8, statuses=()).total == 0


def test_calls_say_what_they_take() -> None:
    """Tab completion and `?` know names only: what hides behind **options cannot be found."""
    calls = {name: call for name, call in inspect.getmembers(Workbench) if name[0] != "_" and callable(call)}
    for name, call in calls.items():
        assert (call.__doc__ or "").strip(), f"{name} has no docstring"
        taken = inspect.signature(call).parameters.values()
        if name not in {"open", "inspect_turns"}:  # smartmem.open and search_turns name the same
            assert not [p.name for p in taken if p.kind is p.VAR_KEYWORD], f"{name} hides what it takes"
    opening = set(inspect.signature(smartmem.open).parameters) - {"database", "settings", "create", "clock"}
    assert opening == set(Settings.model_fields) - {"database_url"}
    asked = {name: p.default for name, p in inspect.signature(Recaller.recall).parameters.items()}
    assert asked == {name: p.default for name, p in inspect.signature(Workbench.recall).parameters.items()}
    parts = set(inspect.signature(Workbench.search_turns).parameters) - {"self", "user_id", "query"}
    assert parts == set(_KEYS) - {"store"}


def test_background_work_raises_what_ended_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with smartmem.open(f"sqlite:///{tmp_path}/b.db", embedder={"name": "mock"}) as made:
        with made.start() as work:
            assert "working" in repr(work)
        assert "stopped" in work._repr_html_()

        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("no relay today")

        monkeypatch.setattr(made.runner, "run", broken)
        work = made.start()
        assert poll(lambda: not work.running, seconds=5)
        assert "ended by RuntimeError" in repr(work)
        with pytest.raises(RuntimeError, match="no relay today"):
            work.stop()
        assert "no relay today" in caplog.text, "whoever never stops it still reads why it ended"
    with pytest.raises(ConfigError, match="nonsense"):
        smartmem.open(f"sqlite:///{tmp_path}/b.db", embedder={"name": "nonsense"}).start()


def test_turn_hits_say_why_a_stage_was_left_out() -> None:
    hits = TurnHits(query="a < b", hits=(), ms=1.0, fallback_reason="rerank failed & gone")
    assert "a &lt; b" in hits._repr_html_()
    assert "failed &amp; gone" in hits._repr_html_()
    assert "speaker" in hits.to_frame()


def test_changes_of_state_are_counted_by_the_kind_of_reason(bench: Workbench) -> None:
    at = dt.datetime(2026, 1, 1, tzinfo=UTC)
    row = {"job_type": "extract", "user_id": 1, "at": at, "attempt": 1, "worker_id": "w", "from_status": "processing"}
    rows = [{**row, "job_id": i, "to_status": "failed", "reason": f"Timeout: after {i} s"} for i in (1, 2)]
    assert JobHistory(rows=rows).changes().values.tolist() == [["extract", "processing → failed", "Timeout", 2]]
    assert bench.job_history().changes()["times"].sum() == len(bench.job_history().rows)
    assert len(JobHistory().changes()) == 0


def test_a_timeline_is_drawn_from_listed_memories(bench: Workbench) -> None:
    rows = timeline(list_memories(bench.db, 101, statuses=()).items)
    assert [row["start"] for row in rows] == sorted(row["start"] for row in rows)
    assert draw(memory_timeline, rows).alt == "memory_timeline"


def test_a_memory_whose_time_has_passed_ends_in_the_timeline(bench: Workbench) -> None:
    """The deposit form was to be sent by a Friday: nobody has run `expire` yet, and recall leaves it out all the same."""
    items = list_memories(bench.db, 101, statuses=()).items
    (form,) = [item for item in items if "deposit form" in item.content]
    assert (form.status, form.valid_to) == ("active", None)
    before, after = (form.ttl_at + dt.timedelta(days=days) for days in (-1, 1))
    ends = [{row["label"]: row["end"] for row in timeline(items, now)}[form.content] for now in (before, after)]
    assert ends == [None, form.ttl_at]


def test_questions_asked_of_memories(bench: Workbench) -> None:
    dataset = load_dataset("smartmem-tiny", limit=3)
    frame = ask_memories(dataset, lambda user, text: bench.recall(user, text, mode="legacy"), bench.messages)
    assert len(frame) == len(dataset.queries)
    assert frame["hit"].isna().equals(frame["no_answer"])
    assert (frame["rank"].gt(0) == frame["hit"].eq(1.0)).all()
    assert frame["hit"].sum() > 0
    overall = rates(frame, "hit")["all"]
    assert overall["lo"] <= overall["mean"] <= overall["hi"]
    assert overall["queries"] == int(frame["hit"].notna().sum())
    assert sum(row["queries"] for row in rates(frame, "hit", by="category").values()) == overall["queries"]
    with pytest.raises(Unmeasurable, match="hit"):
        rates(frame.assign(hit=float("nan")), "hit")


def test_an_area_chart_needs_only_counts(tmp_path: Path) -> None:
    chart = draw(job_states, {"seconds": [0.0, 1.0], "pending": [1.0, 0.0], "success": [0.0, 1.0]}, alt="one job")
    assert chart.alt == "one job"


def test_the_next_question_indexes_only_what_was_said_meanwhile(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed: list[int] = []
    ingest = Pipeline.ingest

    def counted(self: Pipeline, documents: Iterable[Document], batch: int = 1000) -> int:
        wanted = list(documents)
        indexed.append(len(wanted))
        return ingest(self, wanted, batch)

    monkeypatch.setattr(Pipeline, "ingest", counted)
    spec = {"chunker": "turn", "embedder": "mock", "reranker": "none",
            "retriever": {"name": "neighbours", "base": "bm25"}}  # fmt: skip

    def say(number: int, text: str) -> None:
        bench.append(user_id=9, conversation_id="c9", role="user", content=text, occurred_at=START + number * HOUR)

    for number, text in enumerate(["Lentils again today.", "The soup was good.", "  "]):
        say(number, text)
    bench.search_turns(9, "lentils", **spec)
    bench.search_turns(9, "soup", k=1, **spec)
    say(3, "Tomorrow I cook lentils with rice.")
    say(-1, "Before that we had rice.")  # an import may bring what was said earlier
    found = bench.search_turns(9, "lentils with rice", **spec)
    assert indexed == [2, 0, 2]
    with smartmem.open(bench.settings.database_url, embedder={"name": "mock"}) as fresh:
        anew = fresh.search_turns(9, "lentils with rice", **spec)
    assert indexed[-1] == 4
    assert [(hit.text, hit.score) for hit in found.hits] == [(hit.text, hit.score) for hit in anew.hits]
    for user in (101, 102, 103, 104):
        bench.search_turns(user, "rice", **spec)
    bench.search_turns(9, "rice", **spec)
    assert indexed[-1] == 4, "only the latest few indexes are kept"


def test_without_the_model_s_package_turns_are_searched_by_words(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    spec = {"embedder": {"name": "onnx", "model": "bge-small-en", "threads": 1}}  # no test before has loaded this one
    found = bench.search_turns(101, "red lentils", **spec)
    assert any("lentils" in hit.text for hit in found.hits)
    assert "pip install 'smartmem[onnx]'" in str(found.fallback_reason)
    with pytest.raises(MissingExtra, match="onnxruntime"):
        bench.inspect_turns(101, "red lentils", **spec)


def test_without_the_reranker_s_files_turns_keep_the_retriever_s_order(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SMARTMEM_CACHE", str(tmp_path))
    spec = {"embedder": "mock", "retriever": "bm25"}
    found = bench.search_turns(101, "red lentils", **spec)
    plain = bench.search_turns(101, "red lentils", **spec, reranker="none")
    assert [hit.text for hit in found.hits] == [hit.text for hit in plain.hits]
    assert "not reranked" in str(found.fallback_reason)
    assert "smartmem models get reranker-en" in str(found.fallback_reason)
    with pytest.raises(MissingModel, match="reranker-en"):
        bench.inspect_turns(101, "red lentils", **spec)


def test_a_lineage_is_drawn_from_the_stations_of_a_memory(bench: Workbench) -> None:
    item = list_memories(bench.db, 1).items[0]
    rows = lineage_rows(lineage(bench.db, 1, item.id, store=bench.store))
    assert [row["stage"] for row in rows] == ["message", "event", "job", "decision", "memory", "audit", "vector"]
    assert rows[0]["text"].startswith("I live in <b>Leeds</b> now.")
    assert draw(lineage_graph, rows, title="From words to vector").alt == "From words to vector"
