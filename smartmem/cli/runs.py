"""eval compare, gate, baseline, verify, show: what to do with finished runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from smartmem.cli.common import NOT_PASSED, AsJson, print_json, print_table, say
from smartmem.errors import ConfigError

RunFolder = Annotated[Path, typer.Argument(help="the folder of a finished run, e.g. eval/reports/tiny")]


def add_to(app: typer.Typer) -> None:
    """Register the commands under `eval`."""
    for command in (compare, gate, baseline, verify, show):
        app.command()(command)


def compare(
    a: RunFolder,
    b: Annotated[Path | None, typer.Argument(help="another run; left out: two arms of the first are compared")] = None,
    arms: Annotated[list[str] | None, typer.Option("--arm", help="the two arms to compare within one run")] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="default: the suite's first")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="how many queries")] = 20,
    json: AsJson = False,
) -> None:
    """Compare two runs arm by arm, paired by query; or two arms of one run, query by query.

    Runs over different queries or gold are refused.

    \b
    Examples:
      smartmem eval compare eval/reports/before eval/reports/after
      smartmem eval compare eval/reports/tiny --arm bm25 --arm hybrid
    """
    from smartmem.evaluation.compare import changed_queries, compare_arms, compare_runs

    if b is not None:
        found = compare_runs(a, b)
        if json:
            print_json([dataclasses.asdict(row) for row in found])
            return
        print_table(
            "b minus a",
            ["dataset", "arm", "metric", "a", "b", "difference", "95 %", "Holm p"],
            [
                (r.dataset, r.arm, r.metric, r.mean_a, r.mean_b, r.paired.difference, _interval(r.paired), r.p_holm)
                for r in found
                if metric in (None, r.metric)
            ],
        )
        return
    if len(arms or ()) != 2:
        raise typer.BadParameter("give a second run, or two arms of this one: --arm A --arm B")
    first, second = arms or ("", "")
    changes = changed_queries(a, first, second, metric=metric)
    if json:
        print_json([dataclasses.asdict(change) for change in changes])
        return
    whole = compare_arms(a, first, second, metric=metric)
    said = whole.paired
    say(f"{whole.metric}: {second} minus {first} is {said.difference:+.3f} {_evidence(said)}")
    print_table(
        f"{second} against {first}: {said.wins} won, {said.ties} tied, {said.losses} lost",
        ["query", "category", first, second, "change", "text"],
        [(c.query_id, c.category, c.a, c.b, c.change, c.text) for c in changes[:limit]],
    )


def gate(
    run: RunFolder,
    against: Annotated[Path, typer.Option("--baseline", help="a file of eval/baselines/")],
    json: AsJson = False,
) -> None:
    """Hold a run against a baseline: exit status 0 pass, 1 a regression beyond its margin, 2 unmeasurable.

    \b
    Example:
      smartmem eval gate eval/reports/tiny --baseline eval/baselines/tiny.json
    """
    from smartmem.evaluation.gate import gate as hold

    result = hold(run, against)
    if json:
        print_json(dataclasses.asdict(result))
    else:
        say(str(result))
    raise typer.Exit(result.status)


def baseline(
    run: RunFolder,
    out: Annotated[Path, typer.Option("--out", help="the file to write, e.g. eval/baselines/tiny.json")],
    gates: Annotated[Path | None, typer.Option("--gates", help="a file with the margins, e.g. eval/gates.toml")] = None,
) -> None:
    """Write the figures of a run as the baseline for `smartmem eval gate`.

    \b
    Example:
      smartmem eval baseline eval/reports/tiny --out eval/baselines/tiny.json --gates eval/gates.toml
    """
    from smartmem.evaluation.gate import load_margins, write_baseline

    say(f"wrote {write_baseline(run, out, load_margins(gates) if gates else None)}")


def verify(run: RunFolder, json: AsJson = False) -> None:
    """Run again from a run's manifest, nothing cached, and compare every figure; exit status 1 if one differs.

    \b
    Example:
      smartmem eval verify eval/reports/tiny
    """
    from smartmem.evaluation.verify import verify as again

    result = again(run)
    if json:
        print_json(dataclasses.asdict(result))
    else:
        word = "reproduced" if result.ok else "NOT reproduced"
        say(f"{word}: {result.compared} figures, the largest difference is {result.largest:.2g}")
        for row in result.rows:
            if not row.get("ok", True):
                say(f"  {row}")
    if not result.ok:
        raise typer.Exit(NOT_PASSED)


def show(
    run: RunFolder,
    query: Annotated[str | None, typer.Option("--query", help="a query's id")] = None,
    arm: Annotated[str | None, typer.Option("--arm", help="only this arm")] = None,
    worst: Annotated[
        int,
        typer.Option("--worst", min=1, help="so many queries that --arm, or even the best arm, answers worst"),
    ] = 10,
    json: AsJson = False,
) -> None:
    """Look into one query of a run: gold, ranks and hits in every arm; or list the worst queries.

    \b
    Examples:
      smartmem eval show eval/reports/tiny
      smartmem eval show eval/reports/tiny --query q012 --arm hybrid
    """
    from smartmem.evaluation.compare import show_query
    from smartmem.evaluation.results import load_run

    if query is None:
        _worst(load_run(run), arm, worst, json)
        return
    rows = [row for row in show_query(run, query) if arm in (None, row["arm"])]
    if json:
        print_json(rows)
        return
    for row in rows:
        say(f"{row['dataset']} / {row['arm']}: {row['question']}  (gold answer: {row['answer']})")
        for gold in row["gold"]:
            say(f"  gold {gold['id']} at rank {gold['rank'] or '-'}: {gold['text']}")
        print_table(
            "",
            ["score", "", "id", "text"],
            [(hit["score"], "*" if hit["relevant"] else "", hit["id"], hit["text"][:120]) for hit in row["hits"]],
        )


def _worst(run: Any, arm: str | None, count: int, json: bool) -> None:
    metric = run.suite.metrics[0]
    # A failed query has 0 and belongs here as well.
    frame = run.per_query[run.per_query["outcome"].isin(["scored", "failed"])]
    if arm is not None:
        if arm not in set(run.per_query["arm"]):
            raise ConfigError(f"the run has no arm {arm!r}; it has: {', '.join(a.name for a in run.suite.arms)}")
        frame = frame[frame["arm"] == arm]
    # Of all arms the best one counts: what is left at the end is what no arm can answer.
    frame = frame.sort_values(metric, ascending=False, kind="stable").drop_duplicates(["dataset", "query_id"])
    columns = ["dataset", "arm", "query_id", "category", metric, "text"]
    found = frame.sort_values([metric, "query_id"]).head(count)[columns]
    if json:
        print_json(found.to_dict("records"))
        return
    print_table(f"worst by {metric}", columns, found.itertuples(index=False, name=None))


def _evidence(paired: Any) -> str:
    """What a difference is worth, in words."""
    if paired.lo is None:
        return f"without an interval: {paired.clusters} conversation(s) cannot give one"
    words = [f"{_interval(paired)}, 95 % over {paired.clusters} conversations"]
    if paired.p is not None:
        words.append(f"p = {paired.p:.2g}")
    if paired.mde is not None:
        words.append(f"differences below {paired.mde:.3f} could not be seen")
    return "; ".join(words)


def _interval(paired: Any) -> str:
    return "" if paired.lo is None else f"[{paired.lo:+.3f}, {paired.hi:+.3f}]"
