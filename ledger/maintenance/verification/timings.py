"""The fourth task: the four answers of a dashboard, each within its limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import median
from time import perf_counter
from typing import Final, Protocol

from sqlalchemy.exc import DBAPIError

from ledger.errors import DatabaseUnavailable, LedgerError, PermissionMissing
from ledger.maintenance.verification.findings import Finding, failure, warning
from ledger.maintenance.verification.limits import Limits
from ledger.records.plain import Record
from ledger.window import Window, floor

RUNS: Final = 5
PATIENCE_SECONDS: Final = 10.0
"""A question is not put again once it has taken so long altogether."""

_DAY: Final = timedelta(days=1)
_PERIOD: Final = 30 * _DAY
_TICK: Final = timedelta(milliseconds=1)


class Verdict(StrEnum):
    """What a measured time is worth."""

    ON_TARGET = "on target"
    ACCEPTABLE = "acceptable"
    SLOW = "slow"
    UNACCEPTABLE = "unacceptable"
    SKIPPED = "skipped"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing(Record):
    """How long one question took to answer."""

    question: str
    """The method of the billing ledger."""
    verdict: Verdict
    window: Window | None = None
    """What it was asked about; None where it was not asked."""
    limits: Limits
    median_ms: float | None = None
    fastest_ms: float | None = None
    slowest_ms: float | None = None
    runs: int = 0
    """How many were measured; the one before them, which connects and plans, is not."""
    reason: str | None = None
    """Why there is no time."""


class Questions(Protocol):
    """The billing ledger, as far as it is asked here."""

    def gross_margin(self, window: Window, /) -> object: ...
    def provider_costs(self, window: Window, /) -> object: ...
    def margin_trend(self, window: Window, /) -> object: ...
    def cost_distribution(self, window: Window, /) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceReport(Record):
    """The four answers."""

    timings: tuple[Timing, ...]
    findings: tuple[Finding, ...]


def skipped(limits: Mapping[str, Limits], reason: str) -> PerformanceReport:
    """No question is put."""
    return PerformanceReport(
        timings=tuple(
            Timing(question=name, verdict=Verdict.SKIPPED, limits=each, reason=reason)
            for name, each in limits.items()
        ),
        findings=(),
    )


def measure(
    billing: Questions, last_created_at: datetime, limits: Mapping[str, Limits]
) -> PerformanceReport:
    """Ask about the 30 days up to the last call; the trend about its day and the 29 before.

    Raises DatabaseUnavailable. What the database refuses otherwise is in the report.
    """
    end = last_created_at + _TICK
    period = Window(start=end - _PERIOD, end=end)
    midnight = floor(last_created_at, _DAY) + _DAY
    days = Window(start=midnight - _PERIOD, end=midnight)
    asked: Mapping[str, tuple[Callable[[Window], object], Window]] = {
        "gross_margin": (billing.gross_margin, period),
        "provider_costs": (billing.provider_costs, period),
        "margin_trend": (billing.margin_trend, days),
        "cost_distribution": (billing.cost_distribution, period),
    }
    timings = tuple(_timed(name, *asked[name], limits=limits[name]) for name in asked)
    return PerformanceReport(timings=timings, findings=tuple(filter(None, map(_finding, timings))))


def verdict(median_ms: float, limits: Limits) -> Verdict:
    """What a time is worth; exactly at a limit is still within it."""
    if median_ms <= limits.target_ms:
        return Verdict.ON_TARGET
    if median_ms <= limits.acceptable_ms:
        return Verdict.ACCEPTABLE
    return Verdict.SLOW if median_ms <= limits.unacceptable_ms else Verdict.UNACCEPTABLE


def _timed(name: str, ask: Callable[[Window], object], window: Window, *, limits: Limits) -> Timing:
    try:
        taken = _runs(lambda: ask(window))
    except DatabaseUnavailable:
        raise
    except (LedgerError, DBAPIError) as error:
        may_not = isinstance(error, PermissionMissing)
        return Timing(
            question=name,
            verdict=Verdict.SKIPPED if may_not else Verdict.UNANSWERED,
            window=window,
            limits=limits,
            reason=_reason(error),
        )
    found = median(taken)
    return Timing(
        question=name,
        verdict=verdict(found, limits),
        window=window,
        limits=limits,
        median_ms=round(found, 3),
        fastest_ms=round(min(taken), 3),
        slowest_ms=round(max(taken), 3),
        runs=len(taken),
    )


def _reason(error: LedgerError | DBAPIError) -> str:
    """What the server said: before its hints, and after the ledger's own explanation."""
    if isinstance(error, DBAPIError):
        return str(error.orig).splitlines()[0]
    return str(error).splitlines()[-1]


def _runs(ask: Callable[[], object]) -> list[float]:
    """Milliseconds of some runs, at least one."""
    began = perf_counter()
    ask()
    taken: list[float] = []
    while not taken or (len(taken) < RUNS and perf_counter() - began < PATIENCE_SECONDS):
        start = perf_counter()
        ask()
        taken.append((perf_counter() - start) * 1_000)
    return taken


def _finding(timing: Timing) -> Finding | None:
    limits, took = timing.limits, f"took {timing.median_ms} ms"
    match timing.verdict:
        case Verdict.SLOW:
            words = f"{took}; up to {limits.acceptable_ms:g} is acceptable"
            return warning(timing.question, words)
        case Verdict.UNACCEPTABLE:
            words = f"{took}; more than {limits.unacceptable_ms:g} is unacceptable"
            return failure(timing.question, words)
        case Verdict.UNANSWERED:
            return failure(timing.question, f"cannot be answered: {timing.reason}")
        case Verdict.SKIPPED:
            return warning(timing.question, f"not asked, this role may not: {timing.reason}")
        case _:
            return None
