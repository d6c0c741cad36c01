"""Every error that smartmem raises on purpose. A message names the thing, its value and the next step.

SmartMemError
├── ConfigError               settings, suites, command-line values
│   ├── UnknownComponent      a component name that no room registered
│   ├── MissingExtra          an optional package is not installed
│   └── MissingModel          a known model's files are not on this machine
├── DataError                 files and records that come from outside
│   ├── ChecksumMismatch      a download or a local file is not the one the registry names
│   └── BadRecord             one record of a file, payload or message is not usable
├── StoreError                the SQL store or a vector store
│   ├── StaleLease            the lease that guards a row now belongs to another worker
│   ├── DimensionMismatch     vectors of another length than the collection holds
│   └── StoreUnavailable      the server or file cannot be reached or is in use; try again later
├── ModelError                embedders, rerankers, language models
│   ├── TransientModelError   time-out, rate limit, server error: try again later
│   └── MalformedOutput       the model's answer does not fit the schema after repair
├── ScopeError                an obligatory filter (user_id, session_id …) is missing
└── EvaluationError
    ├── IncomparableRuns      runs over different queries or qrels
    └── Unmeasurable          the question cannot be answered from what was run
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class SmartMemError(Exception):
    """Base of all errors that smartmem raises on purpose."""


class ConfigError(SmartMemError):
    """A setting, suite or option has a value that cannot be used."""


class UnknownComponent(ConfigError):
    """No component of this kind is registered under this name."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        super().__init__(f"unknown {kind} {name!r}; known are: {', '.join(sorted(known)) or 'none'}")
        self.kind, self.name, self.known = kind, name, known


class MissingExtra(ConfigError):
    """An optional package is not installed; the message says which extra brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"the package {package!r} is not installed: pip install 'smartmem[{extra}]'")
        self.package, self.extra = package, extra


class MissingModel(ConfigError):
    """Models are known by name, but their files are not on this machine; the message says how to fetch them."""

    def __init__(self, *names: str) -> None:
        what = f"model {names[0]!r} is" if len(names) == 1 else f"models {', '.join(map(repr, names))} are"
        super().__init__(f"{what} not on this machine: run `smartmem models get {' '.join(names)}`")


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Imports of an optional package stand inside: a missing one becomes `MissingExtra`, not a traceback.

    >>> with needs("eval"):
    ...     import json
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtra((error.name or str(error)).partition(".")[0], extra) from None


class DataError(SmartMemError):
    """A file or record from outside cannot be used."""


class ChecksumMismatch(DataError):
    """A file's SHA-256 is not the one that the registry names."""

    def __init__(self, path: str, expected: str, actual: str) -> None:
        super().__init__(
            f"{path}: SHA-256 is {actual}, expected {expected}; move the file away and fetch it "
            "again, or correct the registry if you changed the file on purpose"
        )


class BadRecord(DataError):
    """One record of a file, payload or message is not usable."""


class StoreError(SmartMemError):
    """The SQL store or a vector store failed."""


class StaleLease(StoreError):
    """The lease that guards a row has expired and another worker may hold it: nothing was changed."""


class DimensionMismatch(StoreError):
    """Vectors have another length than the collection holds."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or is in use; nothing was written, try again later."""


class ModelError(SmartMemError):
    """An embedder, reranker or language model failed."""


class TransientModelError(ModelError):
    """Time-out, rate limit or server error: the same call may succeed later."""


class MalformedOutput(ModelError):
    """The model's answer does not fit the schema, also after repair."""


class ScopeError(SmartMemError):
    """An obligatory filter is missing, so that the answer could hold another user's data."""


class EvaluationError(SmartMemError):
    """An evaluation cannot be run or compared."""


class IncomparableRuns(EvaluationError):
    """The runs were made over different queries or qrels."""


class Unmeasurable(EvaluationError):
    """The question cannot be answered from what was run."""
