"""From bytes to readable text: character set, main text, title, language, date of publication."""

from __future__ import annotations

import codecs
import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from smartmem.clock import UTC
from smartmem.errors import needs
from smartmem.text import clean, fold_space, language

# A single-byte table decodes any bytes at all, so as a server's default it says nothing about the page.
_CATCH_ALL = frozenset({"iso8859-1", "cp1252", "ascii", "latin-1"})
# WHATWG: pages that say gb2312 or gbk are read as their superset.
_SUPERSET = {"gb2312": "gb18030", "gbk": "gb18030", "iso8859-1": "cp1252", "ascii": "cp1252"}
_NOT_WEB = frozenset({"utf-7", "unicode-escape", "raw-unicode-escape", "idna", "punycode", "undefined"})
_META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{2,30})""", re.IGNORECASE)
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_LANG = re.compile(r"""<html[^>]{0,300}?\blang\s*=\s*["']?\s*([A-Za-z]{2,3})""", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.{0,500}?)</title", re.IGNORECASE | re.DOTALL)
_TIME_META = re.compile(
    r"""<meta[^>]{0,100}?["'](?:article:published_time|datePublished|pubdate)["'][^>]{0,100}?content\s*=\s*["']"""
    r"""([0-9T:+Z.-]{10,35})["']""",
    re.IGNORECASE,
)
_CJK_LANGUAGES = frozenset({"zh", "ja", "ko"})
# More lost characters than this share, and what is left is not the page's text.
_MAX_LOST = 0.01


class BrokenCharset(ValueError):
    """No character set decodes the body without losing more than a hundredth of it."""


class NoText(ValueError):
    """The page has no text that a reader would read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readable:
    """What `read` finds in a body."""

    text: str
    title: str
    language: str
    charset: str
    published_at: dt.datetime | None


def require() -> None:
    """Raise `MissingExtra` now if the extraction library is absent: at wiring time, not in front of an agent."""
    with needs("web"):
        import trafilatura  # noqa: F401


def decode(content: bytes, declared: str) -> tuple[str, str]:
    """The body as text and the character set that fits. `declared` comes from Content-Type and may be wrong or unknown.

    Order: byte order mark, Content-Type, <meta>, UTF-8, GB 18030, then a guess by statistics.
    Raises `BrokenCharset`.
    """
    for name in _candidates(content, declared):
        try:
            text = content.decode(name)
        except UnicodeError:
            continue
        if "\x00" not in text:
            return text, name
    # A few broken bytes in an otherwise sound page: keep the page, unless too much of it is lost.
    for name in dict.fromkeys((*_known(declared, _meta(content)), "utf-8", "gb18030")):
        text = content.decode(name, "replace")
        if "\x00" not in text and text.count("�") <= len(text) * _MAX_LOST:
            return text, name
    raise BrokenCharset(f"declared {declared or 'nothing'}; no character set reads this body")


def _candidates(content: bytes, declared: str) -> Iterator[str]:
    for bom, name in _BOMS:
        if content.startswith(bom):
            yield name
            return
    said = _known(declared, _meta(content))
    yield from (name for name in said if name not in _CATCH_ALL and name != "cp1252")
    yield "utf-8"
    if said:
        yield from said
        return
    if _looks_gb(content):
        yield "gb18030"
    guess = _guess(content)
    if guess:
        yield guess


def _known(*names: str) -> list[str]:
    found = []
    for name in names:
        try:
            canonical = codecs.lookup(name).name
            b"\0\0\0\0".decode(canonical)  # LookupError for `hex`, `zlib` and other codecs that make no text
        except (LookupError, ValueError):
            continue
        if canonical not in _NOT_WEB:
            found.append(_SUPERSET.get(canonical, canonical))
    return found


def _meta(content: bytes) -> str:
    match = _META.search(content[:4096])
    return match.group(1).decode("ascii") if match else ""


def _looks_gb(content: bytes) -> bool:
    """Whether GB 18030 decodes the body into mostly common Han characters; it accepts many other bytes by chance."""
    try:
        wide = [c for c in content.decode("gb18030") if ord(c) > 0x7F]
    except UnicodeDecodeError:
        return False
    # GB 2312's level-1 characters, which running Chinese text is nearly made of, are rows 16 to 55.
    common = sum(1 for c in wide if _in_level_one(c) or c in "，。、；：？！“”‘’（）《》【】—…·　")
    return bool(wide) and common >= 0.9 * len(wide)


def _in_level_one(char: str) -> bool:
    try:
        raw = char.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return len(raw) == 2 and 0xB0 <= raw[0] <= 0xD7


def _guess(content: bytes) -> str:
    import charset_normalizer

    best = charset_normalizer.from_bytes(content[:65536]).best()
    return best.encoding if best else ""


def read(content: bytes, *, declared: str, content_type: str, url: str) -> Readable:
    """The readable part of an HTML or plain-text body. Raises `BrokenCharset` or `NoText`."""
    markup, charset = decode(content, declared)
    markup = clean(markup)[0]
    if content_type == "text/plain" or (not content_type and "<" not in markup[:512]):
        text, title, date = markup.strip(), "", None
    else:
        text, title, date = _main_text(markup, url)
    if not text:
        raise NoText(f"{url} has no main text")
    return Readable(
        text=text,
        title=fold_space(title),
        language=_language(markup, text),
        charset=charset.removesuffix("-sig"),
        published_at=_published(markup, date),
    )


def _main_text(markup: str, url: str) -> tuple[str, str, str | None]:
    import trafilatura

    try:
        found: Any = trafilatura.bare_extraction(
            markup,
            url=url,
            with_metadata=True,
            include_comments=False,
            include_tables=True,
            # Whole-page date guessing takes any date in the text for the date of publication.
            date_extraction_params={"extensive_search": False, "original_date": True},
        )
        if found is not None and (found.text or "").strip():
            return found.text.strip(), found.title or "", found.date
        match = _TITLE.search(markup)
        text = trafilatura.html2txt(markup, clean=True) or ""
    except Exception as error:  # a stranger's markup can break the parser in any way; the agent goes on
        raise NoText(f"{url} cannot be parsed: {type(error).__name__}: {error}") from error
    return text.strip(), match.group(1) if match else "", None


def _language(markup: str, text: str) -> str:
    """The page's own word where it agrees with the script of the text; templates often carry a wrong one."""
    script = language(text)
    match = _LANG.search(markup[:4096])
    said = match.group(1).lower() if match else ""
    return said if said and (said in _CJK_LANGUAGES) == (script == "zh") else script


def _published(markup: str, date: str | None) -> dt.datetime | None:
    """The exact time from metadata where there is one with a zone, else the day (00:00 UTC)."""
    match = _TIME_META.search(markup[:65536])
    for text in (match.group(1) if match else "", date or ""):
        try:
            when = dt.datetime.fromisoformat(text)
        except ValueError:
            continue
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    return None
