"""What each user allows. The three switches gate writing and reading alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.engine import Connection

from smartmem.db.tables import memory_user_settings
from smartmem.frames import Tabular

SENSITIVE_LEVEL = 2  # what `sensitive_memory_enabled = False` keeps out; level 1 (allergies, birthdays) stays usable


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSettings(Tabular):
    """A user without a row has the defaults: everything on but sensitive memories."""

    memory_enabled: bool = True
    implicit_memory_enabled: bool = True
    sensitive_memory_enabled: bool = False

    def blocks(self, *, is_explicit: bool, sensitivity_level: int) -> str | None:
        """The reason code for which a memory must be neither written nor used, or None."""
        if not self.memory_enabled or (not is_explicit and not self.implicit_memory_enabled):
            return "SETTING_BLOCKED"
        if sensitivity_level >= SENSITIVE_LEVEL and not self.sensitive_memory_enabled:
            return "SENSITIVE_BLOCKED"
        return None


DEFAULTS = UserSettings()


def load_user_settings(conn: Connection, user_ids: Iterable[int]) -> Mapping[int, UserSettings]:
    """The settings of those users who have a row; `.get(user_id, DEFAULTS)` for the rest."""
    s = memory_user_settings.c
    wanted = sorted(set(user_ids))
    rows = conn.execute(
        select(s.user_id, s.memory_enabled, s.implicit_memory_enabled, s.sensitive_memory_enabled).where(
            s.user_id.in_(wanted)
        )
    )
    return {
        user_id: UserSettings(
            memory_enabled=bool(enabled),
            implicit_memory_enabled=bool(implicit),
            sensitive_memory_enabled=bool(sensitive),
        )
        for user_id, enabled, implicit, sensitive in rows
    }
