"""Character sets, dates, languages, main text."""

from __future__ import annotations

import datetime as dt

import pytest

from smartmem.clock import UTC
from smartmem.web.extract import BrokenCharset, NoText, decode, read

ZH = "青河干流全长一百八十七公里，流域面积三千四百平方公里。每年六月到八月为汛期。"
EN = "The café at the pier opens at ten — and the bun, baked on the mainland, sells out by noon."


def page(text: str, head: str = "") -> str:
    return f"<html><head><title>T</title>{head}</head><body><article><p>{text * 4}</p></article></body></html>"


@pytest.mark.parametrize(
    ("text", "encoding", "declared", "meta"),
    [
        (ZH, "utf-8", "utf-8", ""),
        (ZH, "utf-8", "", ""),
        (ZH, "utf-8", "iso-8859-1", ""),  # a server's default
        (ZH, "utf-8", "gbk", "utf-8"),  # the header lies, the page is right
        (ZH, "gbk", "gbk", ""),
        (ZH, "gbk", "gb2312", ""),
        (ZH, "gbk", "", "gb2312"),
        (ZH, "gbk", "", ""),
        (ZH, "gbk", "utf-8", ""),
        (ZH, "gbk", "x-klingon", "gbk"),
        (ZH + "𠮷", "gb18030", "gb2312", ""),
        (ZH, "big5", "big5", ""),
        (ZH, "utf-16", "", ""),
        (ZH, "utf-8-sig", "gbk", ""),
        (EN, "cp1252", "windows-1252", ""),
        (EN, "cp1252", "iso-8859-1", ""),  # what pages under this name mean
        (EN, "utf-8", "us-ascii", ""),
        (EN, "cp1252", "", "windows-1252"),
    ],
)
def test_decoding_finds_the_charset(text: str, encoding: str, declared: str, meta: str) -> None:
    text = text.replace("里", "裡") if encoding == "big5" else text
    text = "青河長度一百公里" * 3 if encoding == "big5" else text
    markup = page(text, f'<meta charset="{meta}">' if meta else "")
    assert decode(markup.encode(encoding), declared)[0] == markup


@pytest.mark.parametrize("declared", ["hex", "zlib", "undefined", "unicode_escape", "idna", "\x00", "utf-7", "é"])
def test_codecs_that_are_no_charset_are_overlooked(declared: str) -> None:
    assert decode(page(ZH).encode(), declared)[0] == page(ZH)


def test_a_few_bad_bytes_keep_the_page() -> None:
    content = page(ZH * 20).encode().replace("汛".encode(), b"\xff", 1)
    text, charset = decode(content, "utf-8")
    assert charset == "utf-8"
    assert text.count("�") == 1


def test_hopeless_bytes_are_refused() -> None:
    with pytest.raises(BrokenCharset):
        decode(b"<p>" + bytes(range(0x80, 0x100)) * 40, "utf-8")


def test_main_text_leaves_the_frame_out() -> None:
    markup = page(ZH).replace("<article>", "<nav>首页 新闻 体育</nav><article>") + "<footer>版权所有</footer>"
    found = read(markup.encode(), declared="utf-8", content_type="text/html", url="http://a.test/")
    assert ZH in found.text
    assert "首页 新闻" not in found.text
    assert (found.title, found.language) == ("T", "zh")


@pytest.mark.parametrize(
    ("head", "published"),
    [
        ("", None),
        (
            '<meta property="article:published_time" content="2026-05-01T06:30:00+08:00">',
            dt.datetime(2026, 4, 30, 22, 30, tzinfo=UTC),
        ),
        ('<meta name="pubdate" content="2026-05-01">', dt.datetime(2026, 5, 1, tzinfo=UTC)),
        ('<meta property="article:published_time" content="2026-99-99">', None),
        (
            '<script type="application/ld+json">{"@type": "NewsArticle", "datePublished": "2026-05-01"}</script>',
            dt.datetime(2026, 5, 1, tzinfo=UTC),
        ),
    ],
)
def test_date_of_publication(head: str, published: dt.datetime | None) -> None:
    found = read(page(ZH, head).encode(), declared="", content_type="text/html", url="http://a.test/")
    assert found.published_at == published


def test_a_date_in_the_text_is_not_the_date_of_publication() -> None:
    found = read(page(EN + " On 3 May 2019 it rained. ").encode(), declared="", content_type="", url="http://a.test/")
    assert found.published_at is None


@pytest.mark.parametrize(("lang", "text", "language"), [("en", ZH, "zh"), ("zh", EN, "en"), ("fr", EN, "fr")])
def test_language_believes_the_script_before_the_template(lang: str, text: str, language: str) -> None:
    markup = page(text).replace("<html>", f'<html lang="{lang}">')
    assert read(markup.encode(), declared="", content_type="text/html", url="u").language == language


def test_plain_text_is_taken_as_it_is() -> None:
    found = read(f"\n{EN}\n1 < 2 & 3".encode(), declared="utf-8", content_type="text/plain", url="u")
    assert found.text == f"{EN}\n1 < 2 & 3"


@pytest.mark.parametrize("body", [b"", b"<html></html>", b"<html><body><script>x()</script></body></html>", b"   "])
def test_pages_without_text(body: bytes) -> None:
    with pytest.raises(NoText):
        read(body, declared="utf-8", content_type="text/html", url="u")
