"""A question that names a time finds what was said at that time: "in June 2022", "two weeks ago"."""

from __future__ import annotations

import calendar
import datetime as dt
import functools

import numpy as np
import regex

from smartmem.errors import ConfigError
from smartmem.rag.protocols import Embedder, VectorStore
from smartmem.rag.registry import register
from smartmem.rag.retrieve.around import Around, Inner, inner
from smartmem.rag.trace import stage
from smartmem.rag.types import Chunk, Hit, Query, ranked
from smartmem.text import language

Span = tuple[dt.date, dt.date]  # both ends included
# What the library takes for a date and people mostly do not mean as one: "18th" alone, "may" as a verb, "two weeks".
_NO_DATE = regex.compile(
    r"\W*(\d{1,2}(st|nd|rd|th)?|may|march|mar|sun|sat|mon|wed|now|second"
    r"|(an?|one|two|three|four|five|six|seven|eight|nine|ten|\d+) (day|week|month|year)s?)\W*"
)
_SCALE = 100  # the spread of a query's scores is that of so many hits


@register("retriever", "dates")
class DatesRetriever(Around):
    """Base's score + `weight` x the standard deviation of its first 100, for turns whose date fits the question's.

    dateparser reads the times of the question (English, some Chinese; what it misses changes nothing), relative to
    `Query.at` or, without it, to the newest hit. A turn fits from the first day meant until `slack_days` after the
    last: people tell of what happened afterwards. A turn's day is metadata `occurred_at`, else `date`; a turn without
    one is left as it is. A question that names no time keeps base's order and costs half a millisecond. What is longer
    than `longest` bytes of UTF-8 (66 Chinese characters) is a stretch of dialogue, whose "today" asks for nothing.
    """

    def __init__(
        self,
        base: Inner = "hybrid",
        weight: float = 1.0,
        slack_days: int = 14,
        depth: int = 200,
        longest: int = 200,
        embedder: Embedder | None = None,
        store: VectorStore | None = None,
        token_cache: str | None = None,
    ) -> None:
        if weight < 0 or slack_days < 0 or depth < 1 or longest < 0:
            raise ConfigError(
                f"retriever 'dates': weight = {weight}, slack_days = {slack_days}, depth = {depth}, "
                f"longest = {longest}; depth needs 1 or more, the others 0 or more"
            )
        self.base = inner(base, embedder, store, token_cache)
        self._weight, self._slack, self._depth = weight, dt.timedelta(days=slack_days), depth
        self._longest = longest

    def retrieve(self, query: Query, k: int) -> list[Hit]:
        hits = self.base.retrieve(query, max(k, self._depth))
        with stage("dates") as out:
            days = [day_of(hit.chunk) for hit in hits]
            known = [day for day in days if day is not None]
            asked = query.at.date() if query.at is not None else max(known, default=None)
            read = asked is not None and len(query.text.encode("utf-8", "replace")) <= self._longest
            spans = spans_of(query.text, asked) if asked is not None and read else []
            none = "the question names no time" if read else "no dates, or longer than a question"
            out.note = ", ".join(f"{first} … {last}" for first, last in spans) or none
            if spans:
                gain = self._weight * float(np.std([hit.score for hit in hits[:_SCALE]]))
                fits = [day is not None and any(a <= day <= b + self._slack for a, b in spans) for day in days]
                hits = ranked(
                    [
                        hit.with_score(hit.score + gain, dated=gain) if fit else hit
                        for hit, fit in zip(hits, fits, strict=True)
                    ]
                )
            found = out.hits = hits[: max(k, 0)]
        return found


def spans_of(question: str, asked: dt.date) -> list[Span]:
    """The times that a question names, as days. `asked`: the day that "last week" counts from.

    >>> spans_of("Where was I in June 2022?", dt.date(2023, 8, 20))
    [(datetime.date(2022, 6, 1), datetime.date(2022, 6, 30))]
    """
    from dateparser.search import search_dates  # a tenth of a second that only those pay who search dialogues

    spoken = language(question)
    if spoken not in ("en", "zh"):
        return []
    options = {
        "RELATIVE_BASE": dt.datetime.combine(asked, dt.time(12)),
        "PREFER_DATES_FROM": "past",
        "PREFER_DAY_OF_MONTH": "first",
    }
    found = search_dates(question, languages=[spoken], settings=options) or []
    spans = [_span(words, day.date(), spoken) for words, day in found if not _NO_DATE.fullmatch(words)]
    # "10 April 2023" may come as a day and a year: the narrower is meant.
    return [a for a in spans if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in spans)]


def day_of(chunk: Chunk) -> dt.date | None:
    """The day of a turn: metadata `occurred_at` (ISO 8601), else `date` as people write it."""
    said = chunk.metadata.get("occurred_at") or chunk.metadata.get("date")
    return _read_day(said) if isinstance(said, str) else None


@functools.lru_cache(maxsize=10_000)
def _read_day(text: str) -> dt.date | None:
    """All turns of a session share one date, so each is read once."""
    try:
        return dt.datetime.fromisoformat(text).date()
    except ValueError:
        import dateparser

        read = dateparser.parse(text, languages=["en", "zh"], settings={"REQUIRE_PARTS": ["day", "month", "year"]})
        return read.date() if read is not None else None


def _span(words: str, day: dt.date, spoken: str) -> Span:
    """From a day of it to the whole time that the words name."""
    from dateparser.date import DateDataParser

    match DateDataParser(languages=[spoken]).get_date_data(words).period:
        case "year":
            return day.replace(month=1, day=1), day.replace(month=12, day=31)
        case "month":
            return day.replace(day=1), day.replace(day=calendar.monthrange(day.year, day.month)[1])
        case "week":
            return day - dt.timedelta(days=3), day + dt.timedelta(days=3)
        case _:
            return day, day
