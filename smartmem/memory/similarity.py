"""How alike two short texts are, by their words: no model, right for Chinese, English and mixtures."""

from __future__ import annotations

from functools import lru_cache

import regex

from smartmem.text import normalise

_TERM = regex.compile(r"[\p{Han}]+|[\p{L}\p{N}]+(?:['’][\p{L}]+)?")
_HAN = regex.compile(r"\p{Han}")
# Words that say nothing about the topic; kept short on purpose, since negations and quantities must count.
_STOP_WORDS = (
    "a an the i i'm i've i'd i'll me my mine we our us you your it it's its is are was were be been am do does did "
    "to of in on at for and or so that this these those with as by from have has had will would can could just "
    "really very too also please now then there here about up out into than what when where who which how why "
    "what's where's who's when's how's many much any some"
)
_STOP = frozenset(_STOP_WORDS.split())
_STOP_ZH = frozenset("我你他她它的了是在也都就很和与及吧呢吗啊呀哈嘛把被给要会能有个这那着过得地上下里么什哪")
_SUFFIXES = ("ingly", "edly", "ings", "ing", "ied", "ies", "ed", "es", "s", "ly")


@lru_cache(maxsize=8192)
def terms(text: str) -> frozenset[str]:
    """Content words (English, with a light stem) and character bigrams (Chinese) of a text."""
    found: set[str] = set()
    for run in _TERM.findall(normalise(text)):
        if _HAN.match(run):
            found.update(_han_terms(run))
        elif run not in _STOP:
            found.add(stem(run.removesuffix("'s").removesuffix("’s")))
    return frozenset(found)


def ordered_terms(text: str) -> list[str]:
    """Content words in the order of the text; a run of Chinese characters counts as one, up to 4 of them."""
    found: list[str] = []
    for run in _TERM.findall(normalise(text)):
        if _HAN.match(run):
            found.extend(piece[:4] for piece in _han_pieces(run))
        elif run not in _STOP:
            found.append(stem(run.removesuffix("'s").removesuffix("’s")))
    return found


def similarity(a: str, b: str) -> float:
    """Dice coefficient of both texts' terms, 0..1."""
    left, right = terms(a), terms(b)
    if not left or not right:
        return 0.0
    return 2 * len(left & right) / (len(left) + len(right))


def containment(a: str, b: str) -> float:
    """The share of the smaller text's terms that the other has, 0..1."""
    left, right = terms(a), terms(b)
    if not left or not right:
        return 0.0
    return len(left & right) / min(len(left), len(right))


def _han_pieces(run: str) -> list[str]:
    return "".join(c if c not in _STOP_ZH else " " for c in run).split()


def _han_terms(run: str) -> set[str]:
    made: set[str] = set()
    for piece in _han_pieces(run):
        if len(piece) == 1:
            made.add(piece)
        made.update(piece[i : i + 2] for i in range(len(piece) - 1))
    return made


@lru_cache(maxsize=16384)
def stem(word: str) -> str:
    """A light stem: 'vegetarians', 'running', 'moved' meet their bare forms often enough to be counted as one."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            stem = word[: -len(suffix)]
            if suffix in ("ied", "ies"):
                return stem + "y"
            if suffix in ("ing", "ed", "ings") and len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "sl":
                return stem[:-1]
            return stem.removesuffix("e")
    return word.removesuffix("e") if len(word) > 3 else word
