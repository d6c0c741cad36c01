"""Light weights on top of retrieval: who says it, and how old it is. They settle near-ties; they never hide a page."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from smartmem.web.urls import in_domains

# Names that registries hand out to authorities and universities only, as the last or second-last label.
_OFFICIAL = {"gov": 1.0, "mil": 1.0, "edu": 0.8, "ac": 0.8}
_YEAR_DAYS = 365.0


def credibility(domain: str, configured: Mapping[str, float]) -> float:
    """-1…1: the longest configured suffix that fits, else 0.8 or 1 for official names, else 0."""
    fitting = [suffix for suffix in configured if in_domains(domain, (suffix,))]
    if fitting:
        return max(-1.0, min(1.0, configured[max(fitting, key=len)]))
    return max((_OFFICIAL.get(label, 0.0) for label in domain.split(".")[-2:]), default=0.0)


def freshness(published_at: dt.datetime | None, now: dt.datetime) -> float:
    """1 for today, ½ for a year ago, ¼ for two; ½ where the date is not known."""
    if published_at is None:
        return 0.5
    age = max(0.0, (now - published_at).total_seconds() / 86_400)
    return float(2.0 ** (-age / _YEAR_DAYS))
