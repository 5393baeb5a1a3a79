"""What reconciling the billing ledger found: what was compared, and all that does not agree."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from ledger.records.plain import Record, plain
from ledger.window import Window

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings(Record, Generic[Found]):
    """How many there are, and the first of them in their order."""

    count: int
    first: tuple[Found, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SumDifference(Record):
    """One measure of one group that the sums have otherwise than the rows.

    A group that one side does not have counts as nothing, as it does for whoever reads it.
    """

    level: str
    """The table that is folded into; deltas that wait to be are added to it."""
    bucket: datetime
    """When the hour, or the day (UTC), begins."""
    provider: str | None
    """By name. The keys that the level does not keep apart are None."""
    model: str | None
    status: str | None
    tier: str | None
    user_id: UUID | None
    cost_bin: int | None
    measure: str
    """A column of the level."""
    of_rows: int | Decimal
    """What the rows add up to."""
    of_sums: int | Decimal
    """What the level and the deltas say."""

    def __str__(self) -> str:
        keys = (self.provider, self.model, self.user_id, self.status, self.tier)
        group = "/".join(str(key) for key in keys if key is not None)
        bin_of = "" if self.cost_bin is None else f" bin {self.cost_bin}"
        return (
            f"{self.level} {self.bucket.isoformat()} {group}{bin_of}: {self.measure} is"
            f" {plain(self.of_sums)} in the sums, {plain(self.of_rows)} in the rows"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SumsReconciled(Record):
    """The sums against the rows that they are of."""

    hours: Window
    """The whole hours that were compared, of `token_usage_hours`."""
    days: Window
    """The whole days (UTC) that were compared, of all other levels."""
    rows: int
    """Rows booked in those days."""
    differences: Findings[SumDifference]
    """By time and level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeDifference(Record):
    """One value of one row, or of a call with its adjustments, that is not what follows."""

    user_id: UUID
    request_id: str
    created_at: datetime
    kind: Literal["usage", "adjustment", "refund", "adjusted", "refunded"]
    """Of the row; ``adjusted`` is a call and its adjustments taken together, ``refunded`` with
    its refunds too, of which more was given back than was charged."""
    what: str
    """A column of the row; or one of its price's, with `price.` before it."""
    stored: Decimal | str | None
    """Amounts are decimals; of a price it is what the price says."""
    expected: Decimal | str | None
    """What it would have to be; of a price's moment or context, the most that it may be."""

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.request_id!r} of user {self.user_id}: {self.what} is"
            f" {_shown(self.stored)}, and should be {_shown(self.expected)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargesReconciled(Record):
    """Each row against its own price, and against what is charged for it."""

    calls: int
    """Those made in the window; all were recomputed."""
    corrections: int
    """Adjustments and refunds of them, whenever they were booked."""
    differences: Findings[ChargeDifference]
    """By the time of the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDifference(Record):
    """A call that only one ledger has, or that costs something else in each."""

    user_id: UUID
    request_id: str
    made_at: datetime
    """In the ledger that has it; in the telemetry where both do."""
    model: str
    telemetry_cost_usd: Decimal | None
    """None where it has no such call, or does not know what it cost."""
    billed_cost_usd: Decimal | None
    """With its adjustments, without refunds; None where it is not billed, or unpriced."""

    def __str__(self) -> str:
        return (
            f"{self.request_id!r} of user {self.user_id}, {self.model} at"
            f" {self.made_at.isoformat()}: {_shown(self.telemetry_cost_usd)} USD in the telemetry,"
            f" {_shown(self.billed_cost_usd)} USD billed"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsReconciled(Record):
    """The bills against the telemetry ledger, by user and request id."""

    compared_from: datetime | None
    """The first moment that was compared: before it raw rows of the telemetry are not kept.

    None where that is all of the window, so that nothing was compared.
    """
    calls: int
    """The telemetry's of the window that have a request_id."""
    calls_without_request_id: int
    """Those that have none, which can belong to any bill."""
    bills: int
    """The billing ledger's calls of the window."""
    never_billed: Findings[CallDifference]
    """Calls without a bill, of any time."""
    without_a_call: Findings[CallDifference]
    """Bills without a call, of the window or a day around it."""
    differing_costs: Findings[CallDifference]
    """Both ledgers know what it cost, and do not agree."""
    costs_only_in_telemetry: int
    """Calls that are unpriced in the billing ledger alone: no difference, as late prices are."""
    costs_only_in_billing: int
    """Calls whose cost nobody told the telemetry ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingReconciliation(Record):
    """The books of a window: its sums, its charges, and the calls that were billed."""

    window: Window
    sums: SumsReconciled
    charges: ChargesReconciled
    calls: CallsReconciled

    @property
    def differences_found(self) -> int:
        """All of them, also those beyond the first."""
        calls = self.calls
        return (
            self.sums.differences.count
            + self.charges.differences.count
            + calls.never_billed.count
            + calls.without_a_call.count
            + calls.differing_costs.count
        )

    @property
    def is_clean(self) -> bool:
        """Whether everything agrees, which is the expected answer."""
        return self.differences_found == 0

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON: money as text, times as ISO 8601 in UTC."""
        return {
            **Record.to_dict(self),
            "differences_found": self.differences_found,
            "is_clean": self.is_clean,
        }


def _shown(value: object) -> str:
    return "unknown" if value is None else str(plain(value))
