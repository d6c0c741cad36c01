"""API keys from the environment: each opens some users, and nothing opens all by accident.

SMARTMEM_API_KEYS="k3y-of-user-one-….=1, k3y-of-two-users-….=2+3, k3y-of-the-back-end-….=*"
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass

from smartmem.errors import ConfigError, ScopeError

VARIABLE = "SMARTMEM_API_KEYS"
MIN_CHARS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a key may touch. `users` is None for a back end that acts for everybody."""

    users: frozenset[int] | None

    def check(self, user_id: int) -> None:
        """Raise `ScopeError` for a user that the key does not open."""
        if self.users is not None and user_id not in self.users:
            raise ScopeError(f"this key does not open user {user_id}")


class Keys:
    """The keys of one service. Kept as digests, compared in constant time."""

    def __init__(self, scopes: Mapping[str, Scope]) -> None:
        self._scopes = {_digest(key): scope for key, scope in scopes.items()}

    @classmethod
    def from_environment(cls) -> Keys:
        """Read `SMARTMEM_API_KEYS`. Raises `ConfigError`, which never repeats a key."""
        said = os.environ.get(VARIABLE, "").strip()
        if not said:
            raise ConfigError(
                f"{VARIABLE} is not set: write KEY=USERS, e.g. KEY=1 for one user, KEY=1+2 for two, KEY=* for all; "
                "a key: python -c 'import secrets; print(secrets.token_urlsafe(24))'"
            )
        scopes: dict[str, Scope] = {}
        for number, entry in enumerate(said.split(","), 1):
            # From the right: a base64 key may end in "=".
            key, equals, users = (part.strip() for part in entry.rpartition("="))
            if not equals or len(key) < MIN_CHARS:
                raise ConfigError(f"{VARIABLE}, entry {number}: needs KEY=USERS with a key of {MIN_CHARS} characters")
            if key in scopes:
                raise ConfigError(f"{VARIABLE}, entry {number}: its key stands twice; join its users with +")
            scopes[key] = Scope(users=_users(users, number))
        return cls(scopes)

    def scope(self, key: str) -> Scope | None:
        """The scope of a key, or None for one that is unknown."""
        given, found = _digest(key), None
        for known, scope in self._scopes.items():
            if hmac.compare_digest(known, given):
                found = scope
        return found


def _users(said: str, number: int) -> frozenset[int] | None:
    if said == "*":
        return None
    parts = said.split("+")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"{VARIABLE}, entry {number}: users {said!r}; write 1, 1+2 or *")
    return frozenset(int(part) for part in parts)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()
