"""The `extract` job: extract → normalise → filter by user settings → decide → apply.

Models and vector stores are asked in `prepare`, outside any transaction; all writes of a batch happen in `apply`,
inside the transaction that marks its jobs `success`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from smartmem.db.engine import Database
from smartmem.db.tables import chat_messages, memory_decisions, memory_items
from smartmem.errors import ModelError, SmartMemError
from smartmem.jobs.types import Job, Prepared
from smartmem.memory.apply import Changes, Origin, Row, new_item
from smartmem.memory.candidates import SqlCandidates
from smartmem.memory.comparators import create_comparator
from smartmem.memory.decide import Decision, Op, Planner
from smartmem.memory.extract.base import Extraction, Extractor, create_extractor
from smartmem.memory.facts import EMPTIED, Fact, Message
from smartmem.memory.normalise import normalise_facts
from smartmem.memory.user_settings import DEFAULTS, UserSettings, load_user_settings
from smartmem.memory.write import decision_row, write_decision, write_legacy
from smartmem.settings import ExtractSettings, WriteSettings
from smartmem.telemetry import DECISION_FALLBACKS, DECISIONS, log, metrics
from smartmem.types import JobType, MemoryStatus

Withdrawn = Set[tuple[str, str, str]]  # source message, namespace, content hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One job between `prepare` and `apply`."""

    message: Message
    origin: Origin
    mode: str
    facts: tuple[Fact, ...] = ()
    decisions: tuple[Decision, ...] = ()


class ExtractHandler:
    """Works `extract` jobs. `sequential` unless in legacy mode: a decision depends on the user's earlier ones."""

    job_type = JobType.EXTRACT.value

    def __init__(
        self,
        db: Database,
        extractor: Extractor,
        planner: Planner | None = None,
        *,
        extract: ExtractSettings | None = None,
        write: WriteSettings | None = None,
    ) -> None:
        self._db, self._extractor = db, extractor
        self._extract = extract or ExtractSettings()
        self._write = write or WriteSettings()
        self._planner = planner
        self.sequential = self._write.mode != "legacy"
        self._others: dict[str, Extractor] = {}

    # --- outside any transaction ----------------------------------------------------------------------------------

    def prepare(self, jobs: Sequence[Job]) -> Sequence[Prepared | Exception]:
        with self._db.read() as conn:
            settings = load_user_settings(conn, (job.user_id for job in jobs))
            speakers = _speakers(conn, jobs)
        if self._extractor.concurrency > 1 and len(jobs) > 1:
            with ThreadPoolExecutor(self._extractor.concurrency) as pool:
                return list(pool.map(lambda job: self._prepare(job, settings, speakers), jobs))
        return [self._prepare(job, settings, speakers) for job in jobs]

    def _prepare(
        self, job: Job, settings: Mapping[int, UserSettings], speakers: Mapping[str, str]
    ) -> Prepared | Exception:
        try:
            message = Message.parse(job.payload, speakers.get(job.source_message_id or ""))
            if not settings.get(message.user_id, DEFAULTS).memory_enabled:
                # Known before a model sees the text: a user who switched memory off is not read at all.
                return Prepared(job=job, outcome="nothing", result={"reason": "SETTING_BLOCKED"})
            if message.source_text == EMPTIED:
                return Prepared(job=job, outcome="nothing", result={"reason": "FORGOTTEN"})
            extraction, result = self._run(job, message)
            return self._decide(job, message, extraction, result, settings.get(message.user_id, DEFAULTS))
        except SmartMemError as error:
            return error

    def _run(self, job: Job, message: Message) -> tuple[Extraction, dict[str, Any]]:
        """Extract; at the last attempt a failing model may be replaced by the fallback, and the job says so."""
        try:
            return self._choose(message).extract(message), {}
        except ModelError as error:
            if self._extract.fallback == "none" or job.attempt < job.max_retry:
                raise
            reason = f"{type(error).__name__}: {error}"
            log.warning(
                "extraction falls back to %s", self._extract.fallback, extra={"job_id": job.id, "user_id": job.user_id}
            )
            made = create_extractor(self._extract.fallback).extract(message)
            return made, {"fallback": self._extract.fallback, "fallback_reason": reason[:500]}

    def _choose(self, message: Message) -> Extractor:
        if message.extractor is None:
            return self._extractor
        key = repr(sorted(message.extractor.items()))
        if key not in self._others:
            self._others[key] = create_extractor(message.extractor)
        return self._others[key]

    def _decide(
        self, job: Job, message: Message, extraction: Extraction, result: dict[str, Any], allowed: UserSettings
    ) -> Prepared:
        normal, unsure = (
            normalise_facts(
                candidates,
                message.occurred_at,
                min_confidence=self._extract.min_confidence,
                max_facts=self._extract.max_facts,
            )
            for candidates in (extraction.facts, extraction.unsure)
        )
        _tell(result, extraction)
        if normal.dropped:
            result["dropped"] = [str(note) for note in normal.dropped]
        if normal.notes:
            result["notes"] = [str(note) for note in normal.notes]
        mode = message.write_mode or self._write.mode
        origin = Origin(
            user_id=message.user_id,
            namespace=message.namespace,
            assistant_id=message.assistant_id,
            conversation_id=message.conversation_id,
            run_id=message.run_id,
            source_message_id=message.source_message_id or job.source_message_id,
            source_event_id=job.source_event_id,
            job_id=job.id,
            trace_id=job.trace_id,
        )
        facts, blocked = _gate(normal.facts, allowed)
        if blocked:
            result["blocked"] = blocked
        decisions: tuple[Decision, ...] = ()
        if mode != "legacy" and (facts := (*facts, *_gate(unsure.facts, allowed)[0])):
            decisions = self._plan().plan(facts, message.user_id, message.namespace)
        work = Work(message=message, origin=origin, mode=mode, facts=facts, decisions=decisions)
        found = normal.facts or any(one.counts for one in decisions)
        return Prepared(job=job, value=work, outcome="facts" if found else "nothing", result=result)

    def _plan(self) -> Planner:
        if self._planner is None:
            self._planner = Planner(
                comparator=create_comparator(self._write.comparator),
                candidates=SqlCandidates(self._db, self._write.candidates),
                limit=self._write.candidates,
                fallback=self._write.fallback,
            )
        return self._planner

    # --- inside the finishing transaction -------------------------------------------------------------------------

    def apply(self, conn: Connection, done: Sequence[Prepared]) -> Sequence[Prepared]:
        now = self._db.now()
        changes = Changes(self._db, now)
        # Read again: what was switched off while a model was thinking is not written any more.
        settings = load_user_settings(conn, (prepared.job.user_id for prepared in done))
        gone = _withdrawn(conn, done)
        planned: list[_Planned] = []
        legacy: dict[tuple[int, str, str], tuple[Row, int]] = {}
        for index, prepared in enumerate(done):
            work = prepared.value
            if not isinstance(work, Work):
                continue
            allowed = settings.get(work.origin.user_id, DEFAULTS)
            if work.mode == "legacy":
                _collect_legacy(work, allowed, gone, now, index, legacy)
            else:
                _collect_decisions(changes, work, allowed, gone, now, index, planned)
        for row in _unknown(conn, legacy):
            changes.create(row, "new by its content")
        created = changes.flush(conn)
        if planned:
            conn.execute(insert(memory_decisions), [p.row(created, now) for p in planned])
            # Counted again by a transaction that is run again: a figure to watch, not an account.
            for decision in (one.decision for one in planned if one.decision.counts):
                metrics.count(DECISIONS, operation=decision.operation.value)
                metrics.count(DECISION_FALLBACKS, decision.fallback_reason is not None)
        return _report(done, created, legacy, planned)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    """A decision on its way into memory_decisions; only after the flush is it known what was really created."""

    job_index: int
    fact_index: int
    decision: Decision
    written: str
    memory_id: str | None
    work: Work

    def row(self, created: Any, now: dt.datetime) -> Row:
        made = self.memory_id if self.memory_id in created else None
        written = self.written if made or not self.memory_id else Op.NONE.value
        return decision_row(self.fact_index, self.decision, self.work.mode, written, made, self.work.origin, now)


def _collect_legacy(
    work: Work,
    allowed: UserSettings,
    gone: Withdrawn,
    now: dt.datetime,
    index: int,
    into: dict[tuple[int, str, str], tuple[Row, int]],
) -> None:
    origin = work.origin
    for fact in work.facts:
        if fact.action == "retract" or _blocked(fact, allowed) or _is_withdrawn(fact, origin, gone):
            continue
        key = (origin.user_id, origin.namespace, fact.content_hash)
        if key not in into:
            into[key] = (new_item(fact, origin, now), index)


def _unknown(conn: Connection, rows: Mapping[tuple[int, str, str], tuple[Row, int]]) -> list[Row]:
    """Those that no active memory has yet; the unique key still has the last word."""
    if not rows:
        return []
    c = memory_items.c
    query = select(c.user_id, c.namespace, c.active_hash).where(
        c.user_id.in_(sorted({key[0] for key in rows})),
        c.namespace.in_(sorted({key[1] for key in rows})),
        c.active_hash.in_([key[2] for key in rows]),
    )
    known = {tuple(row) for row in conn.execute(query)}
    return [row for key, (row, _) in rows.items() if key not in known]


def _collect_decisions(
    changes: Changes,
    work: Work,
    allowed: UserSettings,
    gone: Withdrawn,
    now: dt.datetime,
    index: int,
    into: list[_Planned],
) -> None:
    collect = write_decision if work.mode == "decision" else write_legacy
    for fact_index, decision in enumerate(work.decisions):
        if _blocked(decision.fact, allowed) or _is_withdrawn(decision.fact, work.origin, gone):
            continue
        written, memory_id = collect(changes, decision, work.origin, now)
        into.append(
            _Planned(
                job_index=index,
                fact_index=fact_index,
                decision=decision,
                written=written,
                memory_id=memory_id,
                work=work,
            )
        )


def _withdrawn(conn: Connection, done: Sequence[Prepared]) -> Withdrawn:
    """What the user deleted of these very messages: a job that is replayed must not bring it back."""
    ids = [p.value.origin.source_message_id for p in done if isinstance(p.value, Work) and p.value.facts]
    c = memory_items.c
    query = select(c.source_message_id, c.namespace, c.content_hash).where(
        c.source_message_id.in_([item for item in ids if item]), c.status == MemoryStatus.DELETED.value
    )
    return {(message_id, namespace, digest) for message_id, namespace, digest in conn.execute(query)}


def _is_withdrawn(fact: Fact, origin: Origin, gone: Withdrawn) -> bool:
    return bool(gone) and (origin.source_message_id, origin.namespace, fact.content_hash) in gone


def _blocked(fact: Fact, allowed: UserSettings) -> str | None:
    if fact.action == "retract":
        return None  # taking something back must always be possible
    return allowed.blocks(is_explicit=fact.is_explicit, sensitivity_level=fact.sensitivity_level)


def _gate(facts: Sequence[Fact], allowed: UserSettings) -> tuple[tuple[Fact, ...], list[str]]:
    kept, codes = [], []
    for fact in facts:
        code = _blocked(fact, allowed)
        if code is None:
            kept.append(fact)
        else:
            codes.append(code)
    return tuple(kept), codes


def _speakers(conn: Connection, jobs: Sequence[Job]) -> dict[str, str]:
    """Who said these messages, by name, where several people talk: the event does not carry it."""
    ids = [job.source_message_id for job in jobs if job.source_message_id and "speaker" not in job.payload]
    c = chat_messages.c
    rows = conn.execute(select(c.id, c.speaker).where(c.id.in_(ids), c.speaker.is_not(None)))
    return {row.id: row.speaker for row in rows}


def _tell(result: dict[str, Any], extraction: Extraction) -> None:
    """Put what is worth keeping of the extraction on the job."""
    if extraction.intent:
        result["intent"] = str(extraction.intent)
    if extraction.reason:
        result["reason"] = extraction.reason
    if extraction.usage:
        result["usage"] = dict(extraction.usage)


def _report(
    done: Sequence[Prepared],
    created: Any,
    legacy: Mapping[tuple[int, str, str], tuple[Row, int]],
    planned: Sequence[_Planned],
) -> list[Prepared]:
    """Count per job what was written; jobs that wrote nothing stay as they are."""
    counts: dict[int, dict[str, int]] = {}
    for row, index in legacy.values():
        if row["id"] in created:
            _count(counts, index, "ADD")
    for item in planned:
        if item.decision.counts:
            _count(counts, item.job_index, item.written)
    if not counts:
        return list(done)
    return [
        replace(prepared, result={**prepared.result, "written": counts[index]}) if index in counts else prepared
        for index, prepared in enumerate(done)
    ]


def _count(counts: dict[int, dict[str, int]], index: int, word: str) -> None:
    mine = counts.setdefault(index, {})
    mine[word] = mine.get(word, 0) + 1
