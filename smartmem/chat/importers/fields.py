"""Reading untrusted JSON: every refusal names the file, the record and the field."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from smartmem.clock import UTC
from smartmem.errors import BadRecord, DataError
from smartmem.types import MAX_ID, Role

_BLOCK = 1 << 20
_CUT = "; the file seems to be cut off: fetch it again"
_NOT_LINES = "; this format has one JSON value a line, so the file may be of another --format"
_JSON_SPACE = " \t\r\n"
# Not calendar.month_name: that one follows the locale of the machine.
_MONTHS = {
    "january": 1,
    "february": 2,
    "march": 3,
    "april": 4,
    "may": 5,
    "june": 6,
    "july": 7,
    "august": 8,
    "september": 9,
    "october": 10,
    "november": 11,
    "december": 12,
}
_LOCOMO_TIME = re.compile(r"(\d{1,2}):(\d{2}) ?(am|pm) on (\d{1,2}) ([A-Za-z]+),? (\d{4})", re.IGNORECASE)
_LONGMEMEVAL_TIME = re.compile(r"(\d{4})/(\d{2})/(\d{2}) \([A-Za-z]{3}\) (\d{2}):(\d{2})")
_REALTALK_TIME = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4}), (\d{1,2}):(\d{2})(?::(\d{2}))?")
_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_BEAM_TIME = re.compile(r"([A-Za-z]+)[- ](\d{1,2}),?[- ](\d{4})")


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file we are, so that an error can say it: `at("turns", 3, "speaker")` goes deeper."""

    path: str
    record: str
    trail: str = ""

    def at(self, *steps: str | int) -> Place:
        trail = self.trail
        for step in steps:
            trail += f"[{step}]" if isinstance(step, int) else f".{step}" if trail else step
        return Place(self.path, self.record, trail)

    def bad(self, why: str) -> BadRecord:
        """The error to raise; `why` ends with what was expected."""
        where = f"{self.path}: {self.record}" + (f", field {self.trail}" if self.trail else "")
        return BadRecord(f"{where}: {why}")

    def mapping(self, value: object) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self.bad(f"is {_kind(value)}, expected an object")
        return value

    def items(self, value: object) -> list[Any]:
        if not isinstance(value, list):
            raise self.bad(f"is {_kind(value)}, expected a list")
        return value

    def text(self, value: object, *, blank: bool = False) -> str:
        """A string; a blank one only where `blank` allows it."""
        if not isinstance(value, str):
            raise self.bad(f"is {_kind(value)}, expected a string")
        if not blank and not value.strip():
            raise self.bad("is blank, expected some text")
        return value

    def number(self, value: object, least: int | None = None) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.bad(f"is {_kind(value)}, expected a whole number")
        if least is not None and value < least:
            raise self.bad(f"is {value}, expected at least {least}")
        if value > MAX_ID:
            raise self.bad(f"is above {MAX_ID}, the largest number that a database holds")
        return value

    def role(self, value: object) -> Role:
        try:
            return Role(self.text(value))
        except ValueError:
            raise self.bad(f"is {value!r}, expected one of {', '.join(Role)}") from None

    def time(self, value: object, reader: Any) -> dt.datetime:
        """`reader(text)` with its ValueError told as a refusal."""
        text = self.text(value)
        try:
            found: dt.datetime = reader(text)
        except ValueError as error:
            raise self.bad(f"is {text!r}: {error}") from None
        return found


def required(place: Place, record: Mapping[str, Any], name: str) -> Any:
    """`record[name]`, or a refusal that names the field and what is there."""
    if name not in record:
        raise place.at(name).bad(f"is missing; the record has: {', '.join(sorted(map(str, record))) or 'nothing'}")
    return record[name]


def read_json(path: Path) -> Any:
    """The whole file as JSON; a broken file says where it broke."""
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise _broken(path, error, len(text)) from None
    except (RecursionError, ValueError) as error:
        raise BadRecord(f"{path}: {_beyond(error)}") from None


def read_text(path: Path) -> str:
    """The file's text in UTF-8 (a byte order mark is dropped)."""
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder, expected a file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadRecord(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number from 1, value) of each line that is not blank."""
    lines = read_text(path).rstrip().split("\n")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                ended = _cut(error, len(line.rstrip()))
                hint = ended and (ended if number == len(lines) else _NOT_LINES)
                raise BadRecord(f"{path}: line {number}, column {error.colno}: not JSON: {error.msg}{hint}") from None
            except (RecursionError, ValueError) as error:
                raise BadRecord(f"{path}: line {number}: {_beyond(error)}") from None
            yield number, value


def json_array(path: Path) -> Iterator[tuple[int, Any]]:
    """(record number from 1, value) of a file that is one list, without holding the list in memory.

    LongMemEval_M is a list of 2.7 GB; one record of it is 5 MB.
    """
    try:
        with path.open(encoding="utf-8-sig") as handle:
            yield from _array_items(path, handle)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder, expected a file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadRecord(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None


def _array_items(path: Path, handle: TextIO) -> Iterator[tuple[int, Any]]:
    decoder, buffer, number = json.JSONDecoder(), "", 0

    def peek() -> str:
        """The next character that is not white space (left in the buffer), or nothing at the end of the file."""
        nonlocal buffer
        buffer = buffer.lstrip(_JSON_SPACE)
        while not buffer:
            block = handle.read(_BLOCK)
            if not block:
                return ""
            buffer = block.lstrip(_JSON_SPACE)
        return buffer[0]

    first = peek()
    if not first:
        raise BadRecord(f"{path}: is empty, expected a list of records")
    if first != "[":
        raise BadRecord(f"{path}: starts with {buffer[:20]!r}, expected a list of records")
    buffer = buffer[1:]
    while True:
        mark = peek()
        if mark == "]":
            buffer = buffer[1:]
            if peek():
                raise BadRecord(f"{path}: text after the end of the list: {buffer[:20]!r}")
            return
        if number:
            if mark != ",":
                cut = "" if mark else _CUT
                raise BadRecord(f"{path}: after record {number}: expected ',' or ']', found {mark!r}{cut}")
            buffer = buffer[1:]
            peek()
        while True:
            try:
                value, end = decoder.raw_decode(buffer)
                break
            except json.JSONDecodeError as error:
                # Either the record goes on in the next block, or it is broken: doubling keeps the retries few.
                block = handle.read(max(_BLOCK, len(buffer)))
                if not block:
                    cut = _cut(error, len(buffer.rstrip()))
                    raise BadRecord(
                        f"{path}: record {number + 1}, character {error.pos} of it: not JSON: {error.msg}{cut}"
                    ) from None
                buffer += block
            except (RecursionError, ValueError) as error:
                raise BadRecord(f"{path}: record {number + 1}: {_beyond(error)}") from None
        number, buffer = number + 1, buffer[end:]
        yield number, value


def _broken(path: Path, error: json.JSONDecodeError, length: int) -> BadRecord:
    return BadRecord(
        f"{path}: line {error.lineno}, column {error.colno} (character {error.pos} of {length}): "
        f"not JSON: {error.msg}{_cut(error, length)}"
    )


def _beyond(error: Exception) -> str:
    """JSON by its grammar, and yet not readable: nested too deep, or a number of thousands of digits."""
    if isinstance(error, RecursionError):
        return "is nested too deep to be a conversation file"
    return f"cannot be read: {str(error).partition(';')[0]}"


def _cut(error: json.JSONDecodeError, length: int) -> str:
    """A hint where the text ended in the middle of a value. For a string json names its beginning, not the end."""
    return _CUT if error.pos >= length - 1 or error.msg.startswith("Unterminated string") else ""


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true/false", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def locomo_time(text: str) -> dt.datetime:
    """`1:56 pm on 8 May, 2023`. The file names no zone; we read UTC, which keeps order and differences."""
    found = _LOCOMO_TIME.fullmatch(text.strip())
    if not found or found[5].lower() not in _MONTHS or not 1 <= int(found[1]) <= 12:
        raise ValueError("expected a time like '1:56 pm on 8 May, 2023'")
    hour = int(found[1]) % 12 + (12 if found[3].lower() == "pm" else 0)
    return dt.datetime(int(found[6]), _MONTHS[found[5].lower()], int(found[4]), hour, int(found[2]), tzinfo=UTC)


def longmemeval_time(text: str) -> dt.datetime:
    """`2023/05/20 (Sat) 02:21`, read as UTC (the file names no zone)."""
    found = _LONGMEMEVAL_TIME.fullmatch(text.strip())
    if not found:
        raise ValueError("expected a time like '2023/05/20 (Sat) 02:21'")
    return dt.datetime(*(int(part) for part in found.groups()), tzinfo=UTC)  # type: ignore[arg-type, misc]


def realtalk_time(text: str) -> dt.datetime:
    """`29.12.2023, 21:46:47` (day first), read as UTC (the file names no zone)."""
    found = _REALTALK_TIME.fullmatch(text.strip())
    if not found:
        raise ValueError("expected a time like '29.12.2023, 21:46:47'")
    day, month, year, hour, minute, second = (int(part or 0) for part in found.groups())
    return dt.datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def iso_date(text: str) -> dt.datetime:
    """`2023-12-25`: midnight UTC of that day."""
    found = _DATE.fullmatch(text.strip())
    if not found:
        raise ValueError("expected a date like '2023-12-25'")
    return dt.datetime(int(found[1]), int(found[2]), int(found[3]), tzinfo=UTC)


def beam_time(text: str) -> dt.datetime:
    """`March-15-2024`, `Mar 15, 2024` or ISO 8601; a time without a zone is read as UTC."""
    found = _BEAM_TIME.fullmatch(text.strip())
    months = [n for name, n in _MONTHS.items() if found and len(found[1]) > 2 and name.startswith(found[1].lower())]
    if found and months:
        return dt.datetime(int(found[3]), months[0], int(found[2]), tzinfo=UTC)
    try:
        value = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("expected a time like 'March-15-2024' or 2024-03-15") from None
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
