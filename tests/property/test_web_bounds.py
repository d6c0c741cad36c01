"""Rules of the web parts that must hold for any input."""

from __future__ import annotations

import gzip
import ipaddress
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smartmem.web.extract import BrokenCharset, decode
from smartmem.web.guard import embedded_ipv4, is_public
from smartmem.web.http import _inflater
from smartmem.web.rewrite import by_rules
from smartmem.web.urls import BadUrl, canonical, parse


@given(st.ip_addresses(v=4))
def test_a_wrapped_address_is_as_public_as_itself(inner: ipaddress.IPv4Address) -> None:
    number = int(inner)
    wrapped = [
        ipaddress.IPv6Address((0xFFFF << 32) | number),
        ipaddress.IPv6Address((0x64FF9B << 96) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),
    ]
    for address in wrapped:
        assert inner in embedded_ipv4(address)
        if not is_public(inner):
            assert not is_public(address)


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        wrapped = embedded_ipv4(address)
        assert not is_public(address) or (wrapped and all(is_public(a) for a in wrapped))


@example(data=b"", room=1, cuts=[1], encoding="raw")  # a header that comes byte by byte
@given(
    data=st.binary(max_size=5000),
    room=st.integers(1, 6000),
    cuts=st.lists(st.integers(1, 400), min_size=1, max_size=8),
    encoding=st.sampled_from(["gzip", "deflate", "identity", "raw"]),
)
def test_unpacking_gives_the_body_up_to_the_room(data: bytes, room: int, cuts: list[int], encoding: str) -> None:
    packed = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes, "raw": _raw}[encoding](data)
    inflate = _inflater("deflate" if encoding == "raw" else encoding)
    assert inflate is not None
    body, start, i = bytearray(), 0, 0
    while start < len(packed) and len(body) < room:
        piece = packed[start : start + cuts[i % len(cuts)]]
        start, i = start + len(piece), i + 1
        for part in inflate.feed(piece, room - len(body)):
            body += part
    assert bytes(body) == data[:room]


def _raw(data: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return engine.compress(data) + engine.flush()


@given(st.binary(max_size=300), st.text(max_size=12))
@settings(deadline=None)  # the first guess by statistics loads its tables
def test_decoding_gives_text_or_says_no(content: bytes, declared: str) -> None:
    try:
        text, _ = decode(content, declared)
    except BrokenCharset:
        return
    assert "\x00" not in text


@given(st.text(max_size=80))
def test_any_text_is_a_url_or_is_refused(text: str) -> None:
    for url in (text, f"http://{text}", f"http://a.test/{text}"):
        try:
            parsed = parse(url)
        except BadUrl:
            continue
        assert parsed.scheme in ("http", "https")
        assert parsed.host


@given(st.text(max_size=60))
def test_canonical_never_fails(text: str) -> None:
    for url in (text, f"http://{text}", f"http://a.test/{text}"):
        canonical(url)


@given(st.from_regex(r"https?://[a-z]{1,8}\.test(/[a-z0-9%.]{0,6}){0,3}(\?[a-z]=[a-z0-9]{0,3})?", fullmatch=True))
def test_canonical_of_a_canonical_form_is_itself(url: str) -> None:
    once = canonical(url)
    assert canonical(f"http://{once}") == once


@given(st.text(max_size=120), st.integers(1, 3))
def test_rewriting_keeps_to_its_limit(question: str, limit: int) -> None:
    queries, note = by_rules(question, limit, 2026)
    assert len(queries) <= limit
    assert len(set(queries)) == len(queries)
    assert note == ""


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "x"])
def test_other_packings_are_refused(encoding: str) -> None:
    assert _inflater(encoding) is None
