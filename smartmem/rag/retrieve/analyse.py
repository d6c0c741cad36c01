"""From text to index terms, for Chinese, Japanese, Korean, English and mixtures of them."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable
from typing import Any, Literal

import regex
import snowballstemmer

from smartmem.errors import ConfigError, MissingExtra

Cjk = Literal["bigram", "uni+bigram", "words"]
# A run of CJK letters, or a word of other letters and digits; apostrophes inside a word belong to it.
_TOKEN = regex.compile(
    r"(?P<cjk>[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ー々]+)"
    r"|(?P<word>(?:(?![\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}])[\p{L}\p{M}\p{N}])+"
    r"(?:['’](?:(?![\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}])[\p{L}\p{M}\p{N}])+)*)"
)
# Function words that questions and turns share without meaning. Pronouns are left in: "my" and "her" tell turns apart.
_STOP = frozenset(
    {"a", "an", "the", "and", "or", "but", "of", "to", "in", "on", "at", "for", "with", "from", "by", "as"}
    | {"is", "are", "was", "were", "be", "been", "am", "do", "does", "did", "have", "has", "had", "that", "this"}
    | {"these", "those", "it", "its", "s", "t", "ll", "re", "ve", "d", "m"}
)


class Analyser:
    """Texts to terms. NFKC and case folding first, so that full-width `ＡＢＣ` is `abc`.

    CJK runs become single characters and overlapping pairs (`uni+bigram`), pairs only (`bigram`; a run of one
    character gives itself), or jieba's words besides single characters and pairs (`words`).
    """

    def __init__(self, *, cjk: Cjk = "uni+bigram", stemming: str = "english", stopwords: bool = True) -> None:
        if cjk not in ("bigram", "uni+bigram", "words"):
            raise ConfigError(f"bm25: cjk = {cjk!r}; use bigram, uni+bigram or words")
        self._cjk = cjk
        self._words = _jieba() if cjk == "words" else None
        self._stem = _stemmer(stemming)
        self._stop = _STOP if stopwords else frozenset()

    def __call__(self, text: str) -> list[str]:
        terms: list[str] = []
        for match in _TOKEN.finditer(unicodedata.normalize("NFKC", text).casefold()):
            if match["cjk"]:
                terms += self._split(match["cjk"])
            else:
                terms += self._word(match["word"])
        return terms

    def _word(self, word: str) -> list[str]:
        parts = word.replace("’", "'").split("'")
        return [self._stem(part) for part in parts if part not in self._stop]

    def _split(self, run: str) -> list[str]:
        pairs = [run[i : i + 2] for i in range(len(run) - 1)]
        if self._cjk == "bigram":
            return pairs or [run]
        terms = [*run, *pairs]
        if self._words is not None:
            terms += [word for word in self._words(run) if len(word) > 2]
        return terms


@functools.lru_cache(maxsize=8)
def _stemmer(language: str) -> Callable[[str], str]:
    """Snowball's stemmer of a language, or `none`. Words repeat, so each is computed once."""
    if language == "none":
        return str
    if language not in snowballstemmer.algorithms():
        known = ", ".join(sorted(snowballstemmer.algorithms()))
        raise ConfigError(f"bm25: stemming = {language!r}; use none or one of: {known}")
    return functools.lru_cache(maxsize=100_000)(snowballstemmer.stemmer(language).stemWord)


def _jieba() -> Callable[[str], list[str]]:
    try:
        import jieba
    except ImportError:
        raise MissingExtra("jieba", "zh") from None
    jieba.setLogLevel(30)  # it announces the loading of its dictionary at INFO on stderr
    cut: Any = jieba.lcut
    return lambda run: list(cut(run))
