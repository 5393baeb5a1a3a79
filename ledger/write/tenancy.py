"""The plans that keep users, tiers, providers and projects as the host application has them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import Insert, insert

from ledger.errors import ConflictingRecord, InvalidArgument, UnknownReference
from ledger.models.tenancy import Project, Provider, Tier, User
from ledger.records.amounts import scaled
from ledger.records.refusal import shown
from ledger.records.rules import require_text
from ledger.write.commands import atomically, execute
from ledger.write.faults import is_collision

if TYPE_CHECKING:
    from sqlalchemy import Executable

    from ledger.write.commands import Plan, Steps

_DECIMALS, _DIGITS = 6, 6
_NOW: Final = func.statement_timestamp()


def set_tier(
    name: str,
    margin_multiplier: Decimal | int | str,
    *,
    effective_from: datetime | None = None,
) -> Plan[datetime]:
    """Charge the tier's users ``margin_multiplier`` for a dollar of cost, from a moment on.

    Gives the moment (UTC), which is now by default. What was booked before keeps its own.
    Raises ConflictingRecord where another multiplier is said for that very moment, and
    InvalidArgument for one that is negative, NaN or of more than 6 decimals.
    """
    require_text("name", name)
    multiplier = _multiplier(margin_multiplier)
    if effective_from is not None and effective_from.utcoffset() is None:
        raise InvalidArgument(
            f"effective_from {effective_from.isoformat()} has no time zone; pass an aware datetime"
        )

    def steps() -> Steps[datetime]:
        begins = effective_from or (yield from execute(select(_NOW.label("now")))).rows[0].now
        added = insert(Tier).values(name=name, margin_multiplier=multiplier, effective_from=begins)
        if not (yield from execute(_counted(added.on_conflict_do_nothing()))).count:
            stored = select(Tier.margin_multiplier).where(
                Tier.name == name, Tier.effective_from == begins
            )
            if (yield from execute(stored)).rows[0][0] != multiplier:
                raise ConflictingRecord(
                    f"tier {name!r} from {begins.isoformat()}",
                    ["margin_multiplier"],
                    "let it hold from another moment on",
                )
        return begins.astimezone(UTC)

    return (yield from atomically(steps()))


def upsert_user(
    *,
    tier: str,
    id: UUID | None = None,  # noqa: A002 - the column's name
    external_id: str | None = None,
) -> Plan[UUID]:
    """Make the user known, or change the tier of one who is; gives the id.

    Known by ``id`` where one is given, else by ``external_id``, and then the id is drawn.
    Raises UnknownReference for a tier that ``set_tier`` never named, and ConflictingRecord
    where the external id is another user's.
    """
    require_text("tier", tier)

    def steps() -> Steps[UUID]:
        named = select(Tier.id).where(Tier.name == tier).limit(1)
        if not (yield from execute(named)).rows:
            raise UnknownReference(
                f"tier {tier!r}: the ledger does not know it; call ledger.tenancy.set_tier first"
            )
        return (yield from _upserted(User, id, external_id, {"tier": tier}))

    return (yield from _upserting("user", external_id, steps()))


def upsert_provider(
    name: str,
    *,
    id: UUID | None = None,  # noqa: A002 - the column's name
    external_id: str | None = None,
) -> Plan[UUID]:
    """Make the provider known by the name that calls have; gives the id.

    Raises ConflictingRecord where the name is known under another id, or the external id is
    another provider's.
    """
    require_text("name", name)

    def steps() -> Steps[UUID]:
        values = _given(id=id, external_id=external_id, name=name)
        added = insert(Provider).values(values)
        kept = added.on_conflict_do_update(
            index_elements=["name"],
            set_={"external_id": func.coalesce(added.excluded.external_id, Provider.external_id)},
        )
        found: UUID = (yield from execute(kept.returning(Provider.id))).rows[0][0]
        if id is not None and found != id:
            raise ConflictingRecord(f"provider {name!r}", ["id"], "leave the id out")
        return found

    return (yield from _upserting("provider", external_id, steps()))


def upsert_project(
    name: str,
    *,
    id: UUID | None = None,  # noqa: A002 - the column's name
    external_id: str | None = None,
) -> Plan[UUID]:
    """Make the project known, or change its name; gives the id.

    Known by ``id`` where one is given, else by ``external_id``, and then the id is drawn.
    Raises ConflictingRecord where the external id is another project's.
    """
    require_text("name", name)
    steps = _upserted(Project, id, external_id, {"name": name})
    return (yield from _upserting("project", external_id, steps))


def _upserting(what: str, external_id: str | None, steps: Steps[UUID]) -> Plan[UUID]:
    if external_id is not None:
        require_text("external_id", external_id)
    try:
        return (yield from atomically(steps))
    except Exception as error:
        if not is_collision(error):
            raise
        named = f"{what} of external_id {external_id!r}"
        raise ConflictingRecord(named, ["id"], "use another external_id") from error


def _upserted(
    model: type[User | Project],
    key: UUID | None,
    external_id: str | None,
    said: dict[str, Any],
) -> Steps[UUID]:
    if key is None and external_id is None:
        raise InvalidArgument("neither id nor external_id is given; one of them says who it is")
    added = insert(model).values(_given(id=key, external_id=external_id, **said))
    changed: dict[str, Any] = {name: added.excluded[name] for name in said}
    if key is not None:
        changed["external_id"] = func.coalesce(added.excluded.external_id, model.external_id)
    kept = added.on_conflict_do_update(
        index_elements=["id" if key is not None else "external_id"], set_=changed
    )
    found: UUID = (yield from execute(kept.returning(model.id))).rows[0][0]
    return found


def _given(**values: Any) -> dict[str, Any]:
    """Without an id that is not given, which the database then draws."""
    return {name: value for name, value in values.items() if name != "id" or value is not None}


def _counted(statement: Insert) -> Executable:
    return statement.execution_options(preserve_rowcount=True)


def _multiplier(given: Decimal | int | str) -> Decimal:
    try:
        multiplier = Decimal(given)
    except (ArithmeticError, TypeError, ValueError):
        multiplier = Decimal("NaN")
    number = scaled(multiplier, _DECIMALS, _DIGITS)
    if number is None or number < 0:
        raise InvalidArgument(
            f"margin_multiplier {shown(given)} is not at least 0 with at most {_DIGITS} digits"
            f" before and {_DECIMALS} after the decimal point"
        )
    return multiplier
