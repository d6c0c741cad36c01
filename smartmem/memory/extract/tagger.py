"""The `tagger` extractor: a conditional random field over the words of a message, trained on labelled messages.

It learns from the project's labelled lists (data/labelled) which stretches are worth keeping; what the `rules`
extractor says of a message is one of its features. Where the user asks in so many words to have something kept and the
field finds nothing, the rules have their way. `smartmem tagger train` makes one of your own labelled messages.

Lafferty, McCallum, Pereira (2001), Conditional random fields; the library is CRFsuite (Okazaki 2007).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
import pycrfsuite
from numpy.typing import NDArray

from smartmem.errors import ConfigError
from smartmem.memory.extract import features
from smartmem.memory.extract.base import Extraction, extractor
from smartmem.memory.extract.features import OUTSIDE
from smartmem.memory.extract.spans import Span, check_probability, facts_by, stretches
from smartmem.memory.facts import Candidate, Message
from smartmem.text import language

LANGUAGES = ("en", "zh")
PACKAGED = Path(str(resources.files("smartmem.memory.extract"))) / "taggers"  # what the package was trained to know
_NAMES = {name: f"{name}.crfsuite" for name in LANGUAGES}


@extractor("tagger")
@dataclass(frozen=True, slots=True)
class TaggerExtractor:
    """Options: `max_facts`, the most facts of one message (the most confident stand); `min_probability`, 0 to 1, below
    which a stretch is left out (chosen on the odd halves: 0.5 finds two facts in a hundred more, and invents three);
    `models`, a folder with your own `en.crfsuite` or `zh.crfsuite` (a language that it lacks is read by the package's
    own)."""

    max_facts: int = 3
    min_probability: float = 0.8
    models: str | None = None

    def __post_init__(self) -> None:
        check_probability("tagger", self.min_probability)
        check_models("tagger", self.models)

    @property
    def concurrency(self) -> int:
        return 1

    def extract(self, message: Message) -> Extraction:
        return facts_by(self._spans, message, min_probability=self.min_probability, max_facts=self.max_facts)

    def _spans(self, text: str, known: Sequence[Candidate]) -> list[Span]:
        tokens, seen = features.read(text, known)
        if not tokens:
            return []
        tags, keeps = field_for(text, self.models).tagged(seen)
        return stretches(tags, [(token.start, token.end) for token in tokens], keeps)


class Field:
    """A trained model. CRFsuite keeps the sequence at hand inside the tagger, so one thread asks at a time."""

    def __init__(self, path: Path) -> None:
        self._tagger = pycrfsuite.Tagger()
        try:
            self._tagger.open(str(path))
        except ValueError as error:
            raise ConfigError(
                f"{path} is no model of the tagger ({error}); write it anew by `smartmem tagger train`"
            ) from None
        self._lock = threading.Lock()

    def tagged(self, seen: list[list[str]]) -> tuple[list[str], list[float]]:
        """The likeliest tags of tokens with these features, and of each the probability that it is worth keeping."""
        with self._lock:
            tags = self._tagger.tag([features.BEGINNING, *seen])[1:]
            return tags, [1 - self._tagger.marginal(OUTSIDE, i) for i in range(1, len(tags) + 1)]

    def probabilities(self, seen: list[list[str]], tags: Sequence[str]) -> NDArray[np.float64]:
        """The marginal probabilities of `tags` for tokens with these features: (tokens, tags)."""
        with self._lock:
            self._tagger.set([features.BEGINNING, *seen])
            known = set(self._tagger.labels())
            columns = [
                [self._tagger.marginal(tag, i) if tag in known else 0.0 for tag in tags]
                for i in range(1, len(seen) + 1)
            ]
        return np.array(columns)


def check_models(name: str, folder: str | None) -> None:
    """Raises `ConfigError` for a folder without a model of any language."""
    if folder is not None and not any(_own(folder, language).is_file() for language in LANGUAGES):
        raise ConfigError(
            f"extractor {name!r}: models={folder!r} has neither {' nor '.join(_NAMES.values())}; "
            "give a folder that `smartmem tagger train` has written"
        )


def field_for(text: str, folder: str | None = None) -> Field:
    """The model for the language of a text, from the folder if it has one, else the package's."""
    return _field(_path(folder, language(text)))


@lru_cache(maxsize=8)
def _field(path: Path) -> Field:
    return Field(path)


def _path(folder: str | None, language: str) -> Path:
    if folder is not None and (own := _own(folder, language)).is_file():
        return own
    return PACKAGED / _NAMES[language]


def _own(folder: str, language: str) -> Path:
    return Path(folder).expanduser() / _NAMES[language]
