"""https: the connection goes to the checked address, and the certificate must still be the host's."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from smartmem.settings import WebFetchSettings
from smartmem.web.fetch import WebFetcher
from smartmem.web.types import Kind
from tests.support.net import LOOPBACK

PAGE = (
    "<html><body><article><p>锁上的门后面是一间安静的阅览室，里面有三百本地方志。</p></article></body></html>".encode()
)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that refuses the certificate hangs up."""


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """Port of a server whose certificate is for secure.test, and the file with the authority that signed it."""
    folder = tmp_path_factory.mktemp("tls")
    authority, leaf = folder / "authority.pem", folder / "leaf.pem"
    _certificates(authority, leaf)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf)
    server = Server((LOOPBACK, 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield int(server.server_address[1]), authority
    server.shutdown()
    server.server_close()
    thread.join()


def _certificates(authority: Path, leaf: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "local authority")])

    def builder(name: x509.Name, public: ec.EllipticCurvePublicKey, ca: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        )

    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    root = builder(ca_name, ca_key.public_key(), True).add_extension(usage, critical=True)
    names = x509.SubjectAlternativeName([x509.DNSName("secure.test")])
    end = builder(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "secure.test")]), key.public_key(), False
    ).add_extension(names, critical=False)
    authority.write_bytes(root.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    leaf.write_bytes(private + end.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def _fetcher(port: int) -> WebFetcher:
    assert ipaddress.ip_address(LOOPBACK).is_loopback
    return WebFetcher(WebFetchSettings(allow=(f"{LOOPBACK}:{port}",)), resolver=lambda host, _: [(LOOPBACK, port)])


def test_the_certificate_is_checked_against_the_name(secure: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    port, authority = secure
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    fetcher = _fetcher(port)
    answer = fetcher.fetch("https://secure.test/")
    assert answer.page, answer.observation
    assert "三百本地方志" in answer.page.text
    other = fetcher.fetch("https://other.test/").observation
    assert other
    assert other.kind is Kind.UNREACHABLE
    assert "other.test" in other.message


def test_an_unknown_authority_is_refused(secure: tuple[int, Path]) -> None:
    observation = _fetcher(secure[0]).fetch("https://secure.test/").observation
    assert observation
    assert observation.kind is Kind.UNREACHABLE
