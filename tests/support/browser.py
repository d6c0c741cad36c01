"""Headless Chromium without a driver: a page in a frame of a given width, measured by a script.

found = measure(Path("report.html"), width=390, script="return document.title")
found.value, found.console, found.requests
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (apt-get install chromium)")
_WRAPPER = """<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,">
<iframe id="page" style="border:0;width:{width}px;height:900px" srcdoc="{page}"></iframe>
<pre id="result"></pre>
<script>
document.getElementById("page").addEventListener("load", event => {{
  const window = event.target.contentWindow, document = event.target.contentDocument;
  let value;
  try {{ value = (function () {{ {script} }})(); }} catch (error) {{ value = "script failed: " + error; }}
  self.document.getElementById("result").textContent = JSON.stringify({{ value }});
}});
</script>"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the script returned, console messages, and the URLs asked for (but files and data:)."""

    value: Any
    console: list[str]
    requests: list[str]


def measure(page: Path, *, width: int, script: str, folder: Path) -> Measured:
    """Open `page` at `width` pixels and run `script` (it returns a value; `window` and `document` are the page's)."""
    assert CHROMIUM is not None
    wrapper = folder / f"wrapper-{width}.html"
    wrapper.write_text(_WRAPPER.format(width=width, page=html.escape(page.read_text("utf-8")), script=script), "utf-8")
    log = folder / f"net-{width}.json"
    done = subprocess.run(
        [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-component-update", "--no-first-run",
            "--disable-background-networking", "--disable-sync", f"--user-data-dir={folder / 'profile'}",
            "--window-size=1600,1000", "--enable-logging=stderr", "--log-level=0", f"--log-net-log={log}",
            "--virtual-time-budget=8000", "--dump-dom", wrapper.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    found = re.search(r'<pre id="result">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, f"chromium gave no result: {done.stderr[-2000:]}"
    asked = set(re.findall(r'"url":"(.*?)"', log.read_text("utf-8", "replace")))
    return Measured(
        value=json.loads(html.unescape(found[1]))["value"],
        console=[line for line in done.stderr.splitlines() if "CONSOLE" in line],
        # Chromium asks its own maker for updates; a page's requests go anywhere else.
        requests=sorted(u for u in asked if u.startswith("http") and "google" not in u),
    )
