"""Fenced blocks of the documentation, and what the comment before each says about running it.

    <!-- run: skip because it needs a container engine -->   left out, and the reason is printed
    <!-- run: save as suite.toml -->                          written to that file instead of being run
    <!-- run: with mariadb -->                                run against the private server of the tests
    <!-- run: fails with 2 -->                                the last command of the block ends with this status
    <!-- run: goes on -->                                     Python of the kernel in which the block before ran

Without a comment, `bash`, `console` and `python` blocks are run; other languages are only read. The blocks of one file
run one after the other in one folder, as a reader would type them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = ("bash", "console", "python")
_BLOCK = re.compile(
    r"(?ms)^(?P<in> *)(?:<!-- run: (?P<order>[^\n]*?) -->\n(?P=in))?"
    r"```(?P<language>\w+)[^\n]*\n(?P<text>.*?)^(?P=in)```$"
)
_ORDER = re.compile(
    r"skip because (?P<skip>.+)|save as (?P<save>\S+)|with (?P<server>mariadb)|"
    r"fails with (?P<status>\d+)|(?P<goes_on>goes on)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block: where it stands, and what is to be done with it."""

    where: str
    language: str
    text: str
    skip: str = ""
    save: str = ""
    server: str = ""
    status: int = 0
    goes_on: str = ""

    @property
    def script(self) -> str:
        """What a shell is given: of a `console` block only the lines after the prompt."""
        if self.language != "console":
            return self.text
        return "".join(line[2:] + "\n" for line in self.text.splitlines() if line.startswith("$ "))


def files() -> list[Path]:
    """README.md and everything in docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(file: Path) -> Iterator[Block]:
    """The blocks of one file that are run, saved or left out with a reason. A comment of no known form is an error."""
    text = file.read_text("utf-8")
    for found in _BLOCK.finditer(text):
        code = textwrap.dedent(found["text"])
        where = f"{file.name}:{text.count(chr(10), 0, found.start('language')) + 1}"
        order = found["order"]
        if order is None:
            if found["language"] in RUN:
                yield Block(where=where, language=found["language"], text=code)
            continue
        known = _ORDER.fullmatch(order)
        if known is None:
            raise ValueError(f"{where}: <!-- run: {order} --> is none of the forms in tests/support/docs.py")
        given = {key: value for key, value in known.groupdict().items() if value is not None}
        status = int(given.pop("status", "0"))
        yield Block(where=where, language=found["language"], text=code, status=status, **given)
