"""Prompts as files. A prompt's version is the hash of its text, so that a change of wording can never go unnoticed."""

from __future__ import annotations

from functools import cache
from importlib import resources

from smartmem.text import sha256


@cache
def prompt(name: str) -> tuple[str, str]:
    """The text of `NAME.md` and its version (the first 12 hex digits of its SHA-256)."""
    text = resources.files("smartmem.memory.extract.prompts").joinpath(f"{name}.md").read_text("utf-8")
    return text, f"{name}-{sha256(text)[:12]}"
