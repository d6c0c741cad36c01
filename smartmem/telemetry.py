"""One room for logs, metrics and traces. Everything above reports here; nothing here knows who reports."""

from __future__ import annotations

import logging

log = logging.getLogger("smartmem")
