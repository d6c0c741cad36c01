"""The made-up web of data/web as a document set: a page is a document, a question names its sentences.

A page is a session of one turn, so that chunkers cut it as they cut a transcript; all pages are one pool.
"""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from smartmem.chat.importers import Conversation, Session, Turn
from smartmem.chat.importers.fields import Place, iso_date, json_lines, read_text, required
from smartmem.errors import BadRecord
from smartmem.evaluation.datasets.loaders import Loaded, gold, only_file
from smartmem.evaluation.datasets.records import EvalQuery, SpanRef, turn_key
from smartmem.types import Role

POOL = "pages"
_BETWEEN = "\n%%%\n"


def pages(files: Mapping[str, Path], limit: int | None) -> Loaded:
    """`sites.toml`, `pages/SITE.md` and `questions.jsonl` of a folder; `limit` reads the first so many questions.

    Statistics resample questions: a page that answers two of them is rare.
    """
    folder = only_file(files)
    pool = Conversation(id=POOL, sessions=tuple(_sessions(folder)))
    texts = {turn.id: turn.text for turn in pool.turns()}
    out = Loaded([pool], [], [])
    file = folder / "questions.jsonl"
    for number, value in json_lines(file):
        if limit is not None and number > limit:
            break
        place = Place(str(file), f"line {number}")
        record = place.mapping(value)
        name = place.at("id").text(required(place, record, "id"))
        spans = []
        for index, item in enumerate(place.at("gold").items(required(place, record, "gold"))):
            here = place.at("gold", index)
            mark = here.mapping(item)
            page = here.at("page").text(required(here, mark, "page"))
            sentence = here.at("sentence").text(required(here, mark, "sentence"))
            start = texts.get(page, "").find(sentence)
            if start < 0:
                raise here.at("sentence").bad(f"does not stand in page {page!r}")
            spans.append(SpanRef(turn=turn_key(POOL, page), start=start, end=start + len(sentence)))
        target = gold(pool, [span.turn.removeprefix(f"{POOL}/") for span in spans])
        language = place.at("lang").text(required(place, record, "lang"))
        out.queries.append(
            EvalQuery(
                id=name,
                text=place.at("question").text(required(place, record, "question")),
                conversation_id=POOL,
                cluster=name,
                category=language,
                language=language,
                answer=place.at("answer").text(required(place, record, "answer")),
                spans=tuple(spans),
                relevant=target.turns,
                relevant_sessions=target.sessions,
                why_ineligible="" if spans else "no sentence is named",
            )
        )
    return out


def _sessions(folder: Path) -> Iterator[Session]:
    sites = folder / "sites.toml"
    try:
        hosts = {name: site["host"] for name, site in tomllib.loads(read_text(sites)).items()}
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise BadRecord(f"{sites}: {error}; expected one table a site with its host") from None
    for name, host in hosts.items():
        file = folder / "pages" / f"{name}.md"
        for number, block in enumerate(read_text(file).split(_BETWEEN), start=1):
            yield _session(Place(str(file), f"page {number}"), host, block)


def _session(place: Place, host: str, block: str) -> Session:
    head, _, body = block.strip().partition("\n\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
    at: dt.datetime = place.at("date").time(required(place, fields, "date"), iso_date)
    page = f"{host}{place.at('path').text(required(place, fields, 'path'))}"
    text = f"{place.at('title').text(required(place, fields, 'title'))}\n\n{body}"
    return Session(
        id=page, turns=(Turn(id=page, speaker="", role=Role.USER, text=text, occurred_at=at),), occurred_at=at
    )
