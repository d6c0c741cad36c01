"""Shared fixtures. Servers are private, on loopback, in temporary folders; see tests/support."""

from __future__ import annotations

import os

# A hub name otherwise takes 85 s to fail; every model in the tests comes from a registry package.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAGAS_DO_NOT_TRACK", "true")
os.environ.setdefault("MPLBACKEND", "agg")
