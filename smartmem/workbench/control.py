"""What is remembered of a user: recall, explain, list, edit, delete, forget. The calls of a workbench below it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from smartmem.frames import Rows
from smartmem.memory import explain as accounts
from smartmem.memory import govern
from smartmem.memory.facts import NAMESPACE
from smartmem.memory.forget import forget
from smartmem.memory.recall import Mode, Recalled
from smartmem.memory.user_settings import UserSettings
from smartmem.memory.views import Duplicates, Forgotten, MemoryItem, Page
from smartmem.types import MemoryStatus
from smartmem.workbench.components import Components


class Control(Components):
    """Calls that read memories and change single ones. Every change is audited."""

    def recall(
        self,
        user_id: int,
        query: str,
        *,
        mode: Mode | None = None,
        k: int | None = None,
        at: dt.datetime | None = None,
        as_of: dt.datetime | None = None,
        memory_types: Sequence[str] = (),
        assistant_id: str | None = None,
        conversation_id: str | None = None,
        run_id: str | None = None,
        min_score: float | None = None,
        namespace: str = NAMESPACE,
        touch: bool = True,
    ) -> Recalled:
        """The memories of one user for a query: scored, gated, budgeted. `.render().text` is what goes into a prompt.

        `mode` is `legacy`, `rag` or `hybrid` (the settings'). `at` is the moment of asking (now); `as_of` asks what
        was held true at that time. Without `touch` the memories do not count as used. Raises `ScopeError` without a
        user.
        """
        return self.recaller.recall(
            user_id, query, mode=mode, namespace=namespace, k=k, at=at, as_of=as_of, memory_types=memory_types,
            assistant_id=assistant_id, conversation_id=conversation_id, run_id=run_id, min_score=min_score,
            touch=touch,
        )  # fmt: skip

    def explain(
        self,
        user_id: int,
        query: str,
        *,
        mode: Mode | None = None,
        limit: int | None = None,
        at: dt.datetime | None = None,
        as_of: dt.datetime | None = None,
        memory_types: Sequence[str] = (),
        min_score: float | None = None,
        namespace: str = NAMESPACE,
    ) -> accounts.Explanation:
        """Of every memory of a user (of the newest `limit`), why it would be used for a query, or why not."""
        return accounts.explain(
            self.recaller, user_id, query, mode=mode, limit=limit, namespace=namespace, at=at, as_of=as_of,
            memory_types=memory_types, min_score=min_score,
        )  # fmt: skip

    def lineage(self, user_id: int, memory_id: str) -> accounts.Lineage:
        """The way of one memory: message, event, job, decision, memory, audit, vector row."""
        return accounts.lineage(self.db, user_id, memory_id, store=self.store)

    def memories(
        self,
        user_id: int,
        *,
        memory_types: Sequence[str] = (),
        statuses: Sequence[str] = (MemoryStatus.ACTIVE.value,),
        text: str | None = None,
        as_of: dt.datetime | None = None,
        namespace: str = NAMESPACE,
        limit: int = 50,
        offset: int = 0,
    ) -> Page:
        """A page of a user's memories, the newest first; `statuses=()` for all, also what was replaced or deleted.

        `text` keeps those that contain it, `as_of` those that were held true at that time.
        """
        return govern.list_memories(
            self.db, user_id, namespace=namespace, memory_types=memory_types, statuses=statuses, text=text,
            as_of=as_of, limit=limit, offset=offset,
        )  # fmt: skip

    def memory(self, user_id: int, memory_id: str) -> MemoryItem:
        """One memory, whatever its status. Raises `NoSuchMemory`."""
        return govern.get_memory(self.db, user_id, memory_id)

    def edit(
        self,
        user_id: int,
        memory_id: str,
        *,
        version: int,
        content: str | None = None,
        memory_type: str | None = None,
        importance: float | None = None,
        ttl_at: dt.datetime | None = None,
    ) -> MemoryItem:
        """Change an active memory. `version` is the one that was seen; `ItemChanged` is raised if it is another now."""
        return govern.edit_memory(
            self.db, user_id, memory_id, version=version, content=content, memory_type=memory_type,
            importance=importance, ttl_at=ttl_at,
        )  # fmt: skip

    def delete(self, user_id: int, memory_id: str, *, reason: str = "deleted by the user") -> MemoryItem:
        """Take a memory out of use: it is never recalled again, but `restore` brings it back."""
        return govern.delete_memory(self.db, user_id, memory_id, reason=reason)

    def restore(self, user_id: int, memory_id: str) -> MemoryItem:
        """Make a deleted, superseded or expired memory active again."""
        return govern.restore_memory(self.db, user_id, memory_id)

    def forget(self, user_id: int, memory_id: str) -> Forgotten:
        """Remove a memory for good, its text in audit rows, decisions, jobs, events and vectors too. No way back."""
        return forget(self.db, user_id, memory_id, store=self.store)

    def expire(self, *, user_id: int | None = None, dry_run: bool = False) -> int:
        """Expire the active memories whose `ttl_at` has passed (recall leaves them out anyway); how many."""
        return govern.expire_memories(self.db, user_id=user_id, dry_run=dry_run)

    def dedupe(self, user_id: int, *, keep: str = "newest", dry_run: bool = True) -> Rows[Duplicates]:
        """Memories that say the same; without `dry_run` all but the newest (or most `confident`) one are archived."""
        return Rows(govern.dedupe(self.db, user_id, keep=keep, dry_run=dry_run))

    def user_settings(self, user_id: int) -> UserSettings:
        """What a user allows: memory at all, memories that were not asked for, sensitive ones."""
        return govern.get_settings(self.db, user_id)

    def set_user_settings(
        self,
        user_id: int,
        *,
        memory_enabled: bool | None = None,
        implicit_memory_enabled: bool | None = None,
        sensitive_memory_enabled: bool | None = None,
    ) -> UserSettings:
        """Change the switches that are given; they hold for writing and reading from the next call on."""
        return govern.set_settings(
            self.db,
            user_id,
            memory_enabled=memory_enabled,
            implicit_memory_enabled=implicit_memory_enabled,
            sensitive_memory_enabled=sensitive_memory_enabled,
        )
