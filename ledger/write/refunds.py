"""The plan that gives back what a call was charged; what the provider asks for it stays."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

from sqlalchemy import Uuid, bindparam, func, literal, select

from ledger.errors import ConflictingRecord, UnknownReference
from ledger.models.billing import TokenUsage
from ledger.records.refusal import refusal
from ledger.records.rules import require_text
from ledger.records.usage import BookedUsage
from ledger.write.commands import atomically, execute
from ledger.write.corrections import alone, correction, moment_of_booking
from ledger.write.recordset import bound
from ledger.write.usage_statements import INSERT, STORED

if TYPE_CHECKING:
    from sqlalchemy import Row

    from ledger.write.commands import Plan, Steps

_USAGE: Final = TokenUsage.__table__

_CORRECTED: Final = select(
    func.coalesce(func.sum(_USAGE.c.credits_deducted), 0).label("credits"),
    func.max(_USAGE.c.margin_multiplier).label("margin_multiplier"),
).where(
    _USAGE.c.user_id == bindparam("user_id", type_=Uuid()),
    _USAGE.c.adjusts_id == bindparam("adjusts_id", type_=Uuid()),
    # As the index has it.
    _USAGE.c.kind != literal("usage"),
)


def refund(
    user_id: UUID,
    request_id: str,
    *,
    credits: int | None = None,  # noqa: A002 - the ledger's word
    refund_id: str | None = None,
    reason: str | None = None,
) -> Plan[BookedUsage]:
    """Give back ``credits`` of what the call was charged, by default all that is left of it.

    Booked at the present moment as a row of kind refund, whose amounts are the difference: its
    charge and margin are negative, its cost is 0. Its request_id is ``refund_id``, which makes
    it happen once: a part needs one of its own, what is left has one by default. The same
    refund again is a success, and gives what was booked. ``reason`` is kept in its attributes.
    From then on the call keeps its charge, whatever it is repriced to.

    Raises UnknownReference for a call that is not booked, InvalidRecord for more credits than
    are left of its charge, and for a part without a refund_id, ConflictingRecord where the
    refund_id is booked with other content, and InvalidArgument where the ledger is bound to a
    transaction that does not see what others commit.
    """
    _require_valid(user_id, request_id, credits, refund_id, reason)
    return (yield from atomically(_steps(user_id, request_id, credits, refund_id, reason)))


def _require_valid(
    user_id: object, request_id: str, count: object, refund_id: str | None, reason: str | None
) -> None:
    if not isinstance(user_id, UUID):
        raise refusal("user_id", user_id, "not a UUID")
    texts = {"request_id": request_id, "refund_id": refund_id, "reason": reason}
    for name, given in texts.items():
        if name == "request_id" or given is not None:
            require_text(name, given)
    if count is not None and (type(count) is not int or count < 1):
        raise refusal("credits", count, "not a whole number of at least 1")
    if count is not None and refund_id is None:
        raise refusal("refund_id", refund_id, "a part needs one, by which a retry is known")


def _steps(
    user_id: UUID, request_id: str, count: int | None, refund_id: str | None, reason: str | None
) -> Steps[BookedUsage]:
    yield from alone()
    call = yield from _booked(user_id, request_id)
    if call is None or call.kind != "usage":
        is_now = "no such call is booked" if call is None else f"is itself of kind {call.kind}"
        raise UnknownReference(f"request_id {request_id!r} of user {user_id}: {is_now}")
    refund_id = refund_id or str(uuid5(call.id, "refund"))
    attributes = {} if reason is None else {"reason": reason}
    earlier = yield from _booked(user_id, refund_id)
    if earlier is not None:
        _require_same(earlier, call, count, attributes)
        return BookedUsage.of(earlier._asdict(), is_duplicate=True)
    whole = (yield from execute(_CORRECTED, {"user_id": user_id, "adjusts_id": call.id})).rows[0]
    left = (call.credits_deducted or 0) + int(whole.credits)
    if left < (count or 1):
        raise refusal("credits", count, f"{left} are left of what {request_id!r} was charged")
    multiplier = call.margin_multiplier
    row = correction(
        call,
        kind="refund",
        request_id=refund_id,
        at=(yield from moment_of_booking()),
        price_id=None,
        vendor_cost=Decimal(0),
        credits_deducted=-(count or left),
        margin_multiplier=whole.margin_multiplier if multiplier is None else multiplier,
        attributes=attributes,
    )
    if not (yield from execute(INSERT, bound([row]))).count:
        # A call with this request_id came in since: calls are booked without waiting.
        raise ConflictingRecord(f"request_id {refund_id!r} of user {user_id}", ["kind"])
    return BookedUsage.of(row, is_duplicate=False)


def _booked(user_id: UUID, request_id: str) -> Steps[Row[Any] | None]:
    key = {"user_id": user_id, "request_id": request_id}
    rows = (yield from execute(STORED, bound([key]))).rows
    return rows[0] if rows else None


def _require_same(
    earlier: Row[Any], call: Row[Any], count: int | None, attributes: dict[str, str]
) -> None:
    differs = {
        "kind": earlier.kind != "refund",
        "adjusts_id": earlier.adjusts_id != call.id,
        "credits_deducted": count is not None and earlier.credits_deducted != -count,
        "attributes": earlier.attributes != attributes,
    }
    if differing := [name for name, is_other in differs.items() if is_other]:
        named = f"request_id {earlier.request_id!r} of user {earlier.user_id}"
        raise ConflictingRecord(named, differing)
