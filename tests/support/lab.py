"""JupyterLab in headless Chromium, spoken to over the DevTools protocol: no driver, nothing but what jupyter brings.

with jupyter_lab(folder, scratch) as lab, browser(scratch) as page:
    page.go(lab.url)
    page.value("document.title")
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.browser import CHROMIUM
from tests.support.net import free_port

TOKEN = "only-for-this-test"  # of a server on loopback that lives as long as the test
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Lab:
    """A running server."""

    url: str


@dataclass(slots=True)
class Page:
    """One page of the browser."""

    socket: Any
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def call(self, method: str, **params: Any) -> Any:
        """Send one command and wait for its answer; events in between are left aside."""
        number = next(self._ids)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def go(self, url: str) -> None:
        self.call("Page.enable")
        self.call("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        """What an expression gives; promises are awaited, exceptions fail the test with their text."""
        done = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, json.dumps(done["exceptionDetails"])[:2000]
        return done["result"].get("value")

    def wait(self, script: str, seconds: float) -> Any:
        """Ask until the answer is true; `AssertionError` with the last answer when it never is."""
        end, found = time.monotonic() + seconds, None
        while time.monotonic() < end:
            if found := self.value(script):
                return found
            time.sleep(0.25)  # between two looks at a page, not instead of a condition
        raise AssertionError(f"not true within {seconds:.0f} s: {script[:200]} (last: {found!r})")

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextlib.contextmanager
def jupyter_lab(folder: Path, scratch: Path) -> Iterator[Lab]:
    """`jupyter lab` on `folder`; its settings, history and runtime files lie in `scratch`."""
    port = free_port()
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
    }
    environment = os.environ | {name: str(scratch / place) for name, place in places.items()}
    command = [
        sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    with (scratch / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            _answers(f"{base}/api/status?token={TOKEN}", server, scratch / "lab.log")
            yield Lab(f"{base}/lab?token={TOKEN}&reset")
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _answers(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(f"no answer from {url.split('?')[0]}: {log.read_text('utf-8', 'replace')[-2000:]}")


@contextlib.contextmanager
def browser(scratch: Path, size: tuple[int, int] = (1400, 1000)) -> Iterator[Page]:
    """A page of a headless Chromium of its own."""
    import websocket  # jupyter-server brings it

    assert CHROMIUM is not None
    profile = scratch / "profile"
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
        f"--window-size={size[0]},{size[1]}", f"--user-data-dir={profile}", "--remote-debugging-port=0",
        "--remote-allow-origins=*", "about:blank",
    ]  # fmt: skip
    with (scratch / "chromium.log").open("wb") as log:
        chromium = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            port = _port(profile / "DevToolsActivePort", chromium)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
                pages = [page for page in json.load(answer) if page["type"] == "page"]
            socket = websocket.create_connection(pages[0]["webSocketDebuggerUrl"], timeout=120)
            try:
                yield Page(socket)
            finally:
                socket.close()
        finally:
            chromium.terminate()
            try:
                chromium.wait(10)
            except subprocess.TimeoutExpired:
                chromium.kill()
                chromium.wait()


def _port(file: Path, chromium: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + START_S
    while time.monotonic() < end and chromium.poll() is None:
        with contextlib.suppress(OSError, IndexError, ValueError):
            return int(file.read_text().splitlines()[0])
        time.sleep(0.1)
    raise AssertionError(f"chromium did not start: {chromium.poll()}")
