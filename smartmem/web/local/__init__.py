"""A web of 79 made-up pages on loopback, to measure and to show search without the internet.

with LocalWeb() as web:
    web.rag("tavily").ask("How much is a parking permit?", "session-1").answer_evidence
"""

from smartmem.web.local.handler import KEYS, LocalHandler
from smartmem.web.local.pages import LocalPage, data_folder, load_pages
from smartmem.web.local.server import TODAY, LocalWeb

__all__ = ["KEYS", "TODAY", "LocalHandler", "LocalPage", "LocalWeb", "data_folder", "load_pages"]
