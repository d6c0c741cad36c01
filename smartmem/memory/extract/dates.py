"""Dates in a message, in Chinese and English, counted from the day on which it was said, in the speaker's own zone."""

from __future__ import annotations

import calendar
import datetime as dt

import regex

from smartmem.text import for_patterns

_MONTHS = {name: index for index, names in enumerate(
    ("", "january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul", "august aug",
     "september sept sep", "october oct", "november nov", "december dec")) for name in names.split()}  # fmt: skip
_DAYS = {name: index for index, names in enumerate(
    ("monday mon", "tuesday tue tues", "wednesday wed", "thursday thu thur thurs", "friday fri", "saturday sat",
     "sunday sun")) for name in names.split()}  # fmt: skip
_ORDINAL_WORDS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
    "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth twenty-first twenty-second twenty-third "
    "twenty-fourth twenty-fifth twenty-sixth twenty-seventh twenty-eighth twenty-ninth thirtieth thirty-first"
)
_ORDINALS = {name: index for index, name in enumerate(_ORDINAL_WORDS.split(), 1)}
_COUNT = {"a": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "ten": 10}
_HAN = dict(zip("一二两三四五六七八九", (1, 2, 2, 3, 4, 5, 6, 7, 8, 9), strict=True))
_HAN_DAY = {"一": 0, "二": 1, "三": 2, "四": 3, "五": 4, "六": 5, "日": 6, "天": 6, "末": 6}

_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DAY = "|".join(sorted(_DAYS, key=len, reverse=True))
_ORDINAL = "|".join(sorted(_ORDINALS, key=len, reverse=True))
_N = r"[\d一二两三四五六七八九十]+"

_ISO = regex.compile(r"\b(\d{4})-(\d{1,2})-(\d{1,2})\b|(\d{4})年(\d{1,2})月(\d{1,2})[日号]?")
_MONTH_DAY = regex.compile(rf"\b({_MONTH})\.? (?:the )?(\d{{1,2}})(?:st|nd|rd|th)?\b(?!:)(?:,? (\d{{4}}))?")
_DAY_MONTH = regex.compile(
    rf"\b(?:the )?(?:(\d{{1,2}})(?:st|nd|rd|th)?|({_ORDINAL}))(?: of)? ({_MONTH})\b(?:,? (\d{{4}}))?"
)
_NTH = regex.compile(
    rf"\b(?:on|by|until|before|for|is|to) the (?:(\d{{1,2}})(?:st|nd|rd|th)|({_ORDINAL}))\b"
    r"(?! (?:floor|time|hour|page))"
)
_WEEKDAY = regex.compile(
    rf"\b(?:(this|next|on|by|until|before|coming|till)(?: the)?(?: coming| next| this)? )?({_DAY})\b(?!s\b)( week)?"
)
_RELATIVE = regex.compile(
    r"\b(today|tonight|this (?:morning|afternoon|evening)|tomorrow|day after tomorrow"
    r"|(?:the )?end of (?:the|this) (?:week|month|year)|this (?:week|weekend|month)|next (?:week|weekend|month)"
    r"|in (a|one|two|three|four|five|six|ten|\d+) (day|week|month)s?(?: time)?)\b"
)
# 12/31 before Chinese words is a month and a day; 24.10. is a day and a month.
_SLASHED = regex.compile(r"(?<![\d/])(1[0-2]|0?[1-9])/([0-3]?\d)(?![\d/])(?=\s*\p{Han})")
_DOTTED = regex.compile(r"(?<![\d.])([0-3]?\d)\.(1[0-2]|0?[1-9])\.(?!\d)")
_ZH_MONTH_DAY = regex.compile(rf"(下个?月|这个?月|本月|({_N})\s?月)\s?({_N})\s?[日号號]")
_ZH_DAY = regex.compile(rf"(?<![月\d])({_N})[号日號](?!线|楼|院|店|门|桌)")
_ZH_WEEKDAY = regex.compile(r"(下下|下|这|本|上)?个?(?:周|星期|礼拜)([一二三四五六日天末])")
_ZH_RELATIVE = regex.compile(
    rf"(今天|今晚|今早|明天|明早|明晚|后天|大后天|月底|这个月底|下个?月底|年底|({_N})(天|周|个?星期|个月)(?:后|之后|以后))"
)
_SPELT = (
    _ISO, _MONTH_DAY, _DAY_MONTH, _NTH, _RELATIVE, _SLASHED, _DOTTED, _ZH_MONTH_DAY, _ZH_DAY, _ZH_RELATIVE,
)  # fmt: skip
_HABIT = regex.compile(r"每个?(?:周|星期|礼拜|天|月|年)|\bevery\b|\b(?:mon|tues|wednes|thurs|fri|satur|sun)days\b")


def last_day(text: str, said_at: dt.datetime) -> dt.date | None:
    """The last day that a text names, not before the day on which it was said; None when it names none.

    A weekday is its next occurrence, "next Tuesday" and 下周二 the one of the following week.
    """
    folded = for_patterns(text)
    today = said_at.date()
    found = [day for day in (*_english(folded, today), *_chinese(folded, today)) if day is not None and day >= today]
    return max(found, default=None)


def names_date(text: str) -> bool:
    """Whether a text names a day at all (a habit's weekday does not count)."""
    folded = for_patterns(text)
    if any(p.search(folded) for p in _SPELT):
        return True
    return not _HABIT.search(folded) and bool(_WEEKDAY.search(folded) or _ZH_WEEKDAY.search(folded))


def end_of(day: dt.date, zone: dt.tzinfo | None) -> dt.datetime:
    """The last second of a day in the speaker's zone."""
    return dt.datetime.combine(day, dt.time(23, 59, 59), zone or dt.UTC)


def _english(text: str, today: dt.date) -> list[dt.date | None]:
    days: list[dt.date | None] = []
    for m in _ISO.finditer(text):
        year, month, day = (int(g) for g in m.groups() if g)
        days.append(_date(year, month, day))
    days += [_in_year(_MONTHS[m[1]], int(m[2]), m[3], today) for m in _MONTH_DAY.finditer(text)]
    days += [
        _in_year(_MONTHS[m[3]], int(m[1]) if m[1] else _ORDINALS[m[2]], m[4], today) for m in _DAY_MONTH.finditer(text)
    ]
    days += [_in_year(int(m[1]), int(m[2]), None, today) for m in _SLASHED.finditer(text)]
    days += [_in_year(int(m[2]), int(m[1]), None, today) for m in _DOTTED.finditer(text)]
    if not any(days):
        days += [_next_nth(int(m[1]) if m[1] else _ORDINALS[m[2]], today) for m in _NTH.finditer(text)]
    if not any(days) and not _HABIT.search(text):
        for m in _WEEKDAY.finditer(text):
            days.append(_weekday(_DAYS[m[2]], today, following=m[1] == "next" or bool(m[3])))
    days += [_relative(m, today) for m in _RELATIVE.finditer(text)]
    return days


def _chinese(text: str, today: dt.date) -> list[dt.date | None]:
    days: list[dt.date | None] = []
    for m in _ZH_MONTH_DAY.finditer(text):
        day = _number(m[3])
        if m[2]:
            days.append(_in_year(_number(m[2]), day, None, today))
        else:
            first = _month_on(today, 1) if m[1].startswith("下") else today.replace(day=1)
            days.append(_date(first.year, first.month, day))
    if not any(days):
        days += [_next_nth(_number(m[1]), today) for m in _ZH_DAY.finditer(text)]
    if not _HABIT.search(text):
        for m in _ZH_WEEKDAY.finditer(text):
            if m[1] == "上":
                continue
            weeks = {"下": 1, "下下": 2}.get(m[1] or "", 0)
            monday = today - dt.timedelta(days=today.weekday())
            day_ = monday + dt.timedelta(days=7 * weeks + _HAN_DAY[m[2]])
            days.append(day_ if weeks or day_ >= today else day_ + dt.timedelta(days=7))
    days += [_zh_relative(m, today) for m in _ZH_RELATIVE.finditer(text)]
    return days


def _relative(m: regex.Match[str], today: dt.date) -> dt.date | None:
    word = m[1]
    if m[3]:
        count = _COUNT.get(m[2]) or int(m[2])
        if m[3] == "month":
            return _month_on(today, count, today.day)
        return today + dt.timedelta(days=count * (7 if m[3] == "week" else 1))
    if word.startswith(("today", "tonight")) or word in ("this morning", "this afternoon", "this evening"):
        return today
    if word.endswith("tomorrow"):
        return today + dt.timedelta(days=2 if "after" in word else 1)
    sunday = today + dt.timedelta(days=6 - today.weekday())
    if "week" in word:
        return sunday + dt.timedelta(days=7) if "next" in word else sunday
    if "year" in word:
        return dt.date(today.year, 12, 31)
    return _month_end(_month_on(today, 1) if "next" in word else today)


def _zh_relative(m: regex.Match[str], today: dt.date) -> dt.date | None:
    word = m[1]
    if m[2]:
        count = _number(m[2])
        if "月" in m[3]:
            return _month_on(today, count, today.day)
        return today + dt.timedelta(days=count * (1 if m[3] == "天" else 7))
    if word.endswith("月底"):
        return _month_end(_month_on(today, 1) if word.startswith("下") else today)
    if word == "年底":
        return dt.date(today.year, 12, 31)
    days = {"明": 1, "后": 2, "大": 3}.get(word[0], 0)
    return today + dt.timedelta(days=days)


def _in_year(month: int, day: int, year: str | None, today: dt.date) -> dt.date | None:
    """The next such day: in December, "9 January" is next year's."""
    if year:
        return _date(int(year), month, day)
    this = _date(today.year, month, day)
    if this is None or this >= today:
        return this
    # A date a little in the past was meant as past; one far back is next year's.
    return this if (today - this).days <= 60 else _date(today.year + 1, month, day)


def _next_nth(day: int, today: dt.date) -> dt.date | None:
    if day >= today.day:
        return _date(today.year, today.month, day)
    following = _month_on(today, 1)
    return _date(following.year, following.month, day)


def _weekday(day: int, today: dt.date, *, following: bool) -> dt.date:
    ahead = (day - today.weekday()) % 7
    if following:
        monday = today - dt.timedelta(days=today.weekday())
        return monday + dt.timedelta(days=7 + day)
    return today + dt.timedelta(days=ahead)


def _month_on(today: dt.date, months: int, day: int = 1) -> dt.date:
    index = today.year * 12 + today.month - 1 + months
    year, month = divmod(index, 12)
    return dt.date(year, month + 1, min(day, calendar.monthrange(year, month + 1)[1]))


def _month_end(day: dt.date) -> dt.date:
    return day.replace(day=calendar.monthrange(day.year, day.month)[1])


def _date(year: int, month: int, day: int) -> dt.date | None:
    try:
        return dt.date(year, month, day)
    except ValueError:
        return None


def _number(text: str) -> int:
    """`12`, `三`, `十二`, `二十一` as a number; at most 99, which is all that days and months need."""
    if text[0].isdigit():
        return int(text)
    tens, ten, ones = text.rpartition("十")
    if not ten:
        return _HAN.get(text[-1], 0)
    return _HAN.get(tens, 1) * 10 + _HAN.get(ones, 0)
