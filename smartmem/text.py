"""Text rules that hold for Chinese, English, emoji and mixtures of them."""

from __future__ import annotations

import functools
import hashlib
import unicodedata

import regex

# Extended grapheme clusters (UAX #29): a family emoji or a flag is one unit and is never cut in two.
_GRAPHEME = regex.compile(r"\X")
# Between two of these there is always a cluster boundary, so a cut needs no scan (most texts, and a hot path).
_SIMPLE = regex.compile(r"[\x20-\x7e\p{Han}]{2}")
_CJK = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]")


def cut(text: str, limit: int) -> tuple[str, bool]:
    """Cut `text` to at most `limit` characters (code points), never inside a grapheme cluster.

    Returns the text and whether anything was cut. A cluster longer than `limit` is dropped whole.

    >>> cut("ab👨‍👩‍👧", 4)
    ('ab', True)
    """
    if len(text) <= limit:
        return text, False
    if limit and _SIMPLE.match(text, limit - 1):
        return text[:limit], True
    end = 0
    # A cluster that straddles the limit ends the text; the window past the limit bounds the work on huge input.
    for match in _GRAPHEME.finditer(text[: limit + 64]):
        if match.end() > limit:
            break
        end = match.end()
    return text[:end], True


def fold_space(text: str) -> str:
    """Trim, and fold every run of white space (also full-width) into one space."""
    return " ".join(text.split())


def normalise(text: str) -> str:
    """The form under which two texts count as the same: NFKC, folded white space, case-folded.

    >>> normalise("Ｉ like  TEA ") == normalise("i like tea")
    True

    Normalising twice changes nothing: case-folding can undo NFKC (and uncover spaces), so it runs until it is stable.
    """
    done = fold_space(unicodedata.normalize("NFKC", text)).casefold()
    while not done.isascii() and (again := fold_space(unicodedata.normalize("NFKC", done)).casefold()) != done:
        done = again
    return done


def simplified(text: str) -> str:
    """Traditional Chinese characters as simplified ones, one for one: the length stays the same, so offsets do too.

    For patterns that are written in simplified characters; what is stored stays as it was said.

    >>> simplified("我對花生過敏")
    '我对花生过敏'
    """
    return text if text.isascii() else text.translate(_simplified_of())


def for_patterns(text: str) -> str:
    """The form that patterns of Chinese and English are written for: normalised, in simplified characters."""
    return simplified(normalise(text))


@functools.cache
def _simplified_of() -> dict[int, str]:
    """The table, from OpenCC's by character: a fifth of a second that only those pay who read what is not ASCII."""
    import opencc

    convert = opencc.OpenCC("t2s").convert
    pairs = ((code, convert(chr(code))) for block in ((0x3400, 0x4DC0), (0x4E00, 0xA000)) for code in range(*block))
    return {code: made for code, made in pairs if len(made) == 1 and made != chr(code)}


def clean(text: str) -> tuple[str, bool]:
    """Make `text` storable everywhere: lone surrogates and NUL become U+FFFD. Returns text and whether it changed.

    No UTF-8 database can hold a lone surrogate, and several tools end a string at NUL.
    """
    if "\x00" not in text and text.isprintable():
        return text, False
    fixed = text.replace("\x00", "�").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return fixed, fixed != text


def sha256(text: str) -> str:
    """Hex SHA-256 of the UTF-8 form (lone surrogates replaced, so that every string has a hash)."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def language(text: str) -> str:
    """`zh` if at least a fifth of the letters are CJK, else `en`: good enough to choose headings and rules."""
    if text.isascii():
        return "en"
    letters = sum(1 for c in text if c.isalpha())
    return "zh" if letters and len(_CJK.findall(text)) * 5 >= letters else "en"
