"""Acceptable addresses, and which are the same page."""

from __future__ import annotations

import pytest

from smartmem.web.urls import BadUrl, canonical, clean_domain, domain, in_domains, parse

SAME = [
    ("https://www.A.org/x/?utm_source=y&b=2&a=1#top", "http://a.org/x?a=1&b=2"),
    ("http://a.org:80/", "https://a.org"),
    ("http://a.org/x/index.html", "http://a.org/x/"),
    ("http://a.org/路?q=河", "http://a.org/%E8%B7%AF?q=%E6%B2%B3"),
    ("http://a.org/a/../b", "http://a.org/b"),
    ("http://a.org./b?spm=1.2", "http://a.org/b"),
]
DIFFERENT = [
    ("http://a.org/x", "http://a.org/y"),
    ("http://a.org/x?id=1", "http://a.org/x?id=2"),
    ("http://a.org:8080/x", "http://a.org/x"),
    ("http://en.a.org/x", "http://zh.a.org/x"),
    ("http://a.org/X", "http://a.org/x"),
]


@pytest.mark.parametrize(("left", "right"), SAME)
def test_same_page(left: str, right: str) -> None:
    assert canonical(left) == canonical(right)


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_different_pages(left: str, right: str) -> None:
    assert canonical(left) != canonical(right)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.org/x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "//a.org/x",
        "a.org",
        "",
        "http://",
        "http:///x",
        "http://user:pass@a.org/",
        "http://a.org:99999/",
        "http://a.org:0/",
        "http://127.0.0.1%00.a.org/",
        "http://a b/",
        "http://[::1",
        "http://a.org/" + "x" * 3000,
    ],
)
def test_bad_urls_are_refused(url: str) -> None:
    with pytest.raises(BadUrl):
        parse(url)


def test_good_urls_are_kept() -> None:
    assert str(parse(" https://a.org/x?y=1 ")) == "https://a.org/x?y=1"
    assert parse("http://北京.example/").raw_host == b"xn--1lq90i.example"


def test_domains_match_whole_labels() -> None:
    assert in_domains("docs.a.org", ("a.org",))
    assert in_domains("a.org", ("b.org", "a.org"))
    assert not in_domains("nota.org", ("a.org",))
    assert not in_domains("a.org.evil.example", ("a.org",))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a.org", "a.org"),
        ("https://www.A.org/x", "a.org"),
        ("*.a.org", "a.org"),
        ("a.org.", "a.org"),
        ("北京.example", "xn--1lq90i.example"),
        ("", ""),
        ("http://", ""),
    ],
)
def test_domain_entries_are_cleaned(given: str, name: str) -> None:
    assert clean_domain(given) == name


def test_domain_of_a_page() -> None:
    assert domain("http://WWW.Example.org:81/x") == "example.org"
    assert domain("nothing") == ""
