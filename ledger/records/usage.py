"""`Usage`: one call as it is to be billed, validated; and what it was booked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from ledger.errors import InvalidArgument
from ledger.records.amounts import USD_DECIMALS, USD_DIGITS, scaled
from ledger.records.completion import EPOCH, MILLISECOND, since_epoch
from ledger.records.identity import derived_id
from ledger.records.plain import Record
from ledger.records.prices import STANDARD
from ledger.records.refusal import as_fields, invalid_record, shown
from ledger.records.rules import jsonb, rounded
from ledger.records.tokens import GREATEST_COUNT, TokenCounts
from ledger.records.transaction import Count, Name

Tokens = Annotated[int, Field(ge=0, le=GREATEST_COUNT)]
Status = Literal["success", "failed", "cancelled"]


class Usage(BaseModel):
    """One call to a language model, as it is to be billed.

    `request_id` is unique to the user: the same one with the same content is booked once, with
    other content it is a conflict. So `created_at`, when the call was made, must be given; it is
    aware and cut to the millisecond. `provider` is the name that `ledger.tenancy` knows.

    Tokens are inclusive totals and their parts, as in Transaction. `vendor_cost` (US dollars,
    rounded half-even to 12 decimals) is for whoever knows what the provider asks; None has it
    worked out from `model_prices`. `tier` None is the user's. A failed or cancelled call is
    billed too, as it may have cost money.

    Raises InvalidRecord.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    user_id: UUID
    request_id: Name
    created_at: AwareDatetime
    provider: Name
    model: Name
    status: Status = "success"
    service_tier: Name = STANDARD
    tier: Name | None = None
    operation: Name | None = None
    project_id: UUID | None = None
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    cache_read_tokens: Tokens = 0
    cache_write_tokens: Tokens = 0
    reasoning_tokens: Tokens = 0
    usage_source: Literal["provider", "estimated"] = "provider"
    """Who counted the tokens."""
    vendor_cost: Annotated[Decimal, Field(ge=0)] | None = None
    latency_ms: Count | None = None
    attributes: dict[str, JsonValue] = Field(default_factory=dict)

    if not TYPE_CHECKING:  # the synthesised signature is the typed one

        def __init__(self, /, **values: Any) -> None:
            try:
                self.__pydantic_validator__.validate_python(values, self_instance=self)
            except ValidationError as error:
                raise invalid_record(error) from None

    @classmethod
    def of(cls, record: object) -> Self:
        """The usage of a mapping, or the usage itself. Raises InvalidRecord for anything else."""
        return record if isinstance(record, cls) else cls(**as_fields(record))

    @model_validator(mode="after")
    def _complete(self) -> Self:
        values = self.__dict__
        values["created_at"] = EPOCH + since_epoch("created_at", self.created_at) * MILLISECOND
        if self.vendor_cost is not None:
            values["vendor_cost"] = rounded(self.vendor_cost, "vendor_cost")
        if self.attributes:
            jsonb(self.attributes)
        _ = self.tokens  # raises where a part is more than its total
        return self

    @cached_property
    def tokens(self) -> TokenCounts:
        """What it is priced by."""
        return TokenCounts(
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cache_read_tokens=self.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens,
            reasoning_tokens=self.reasoning_tokens,
        )

    @cached_property
    def id(self) -> UUID:
        """The UUIDv7 of time, user and request_id, as a Transaction of the same call has it."""
        milliseconds = (self.created_at - EPOCH) // MILLISECOND
        return derived_id(milliseconds, self.user_id, self.request_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Charging:
    """What a credit is worth, and whether calls that did not succeed are charged too.

    Raises InvalidArgument for a credit that is worth nothing, or less.
    """

    credit_value_usd: Decimal = Decimal("0.01")
    charges_failures: bool = False

    def __post_init__(self) -> None:
        worth: object = self.credit_value_usd
        if not isinstance(worth, Decimal) or not (number := scaled(worth)) or number < 0:
            raise InvalidArgument(
                f"credit_value_usd {shown(worth)} is not a Decimal above 0 with at most"
                f" {USD_DIGITS} digits before and {USD_DECIMALS} after the decimal point"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedUsage(Record):
    """What a call was booked at; amounts are None where there is no price for it yet.

    Of a refund they are what it adds: negative, or 0.
    """

    id: UUID
    pricing_status: Literal["priced", "stated", "unpriced"]
    unpriced_reason: str | None
    vendor_cost: Decimal | None
    margin_multiplier: Decimal | None
    credits_deducted: int | None
    charge_usd: Decimal | None
    gross_margin_usd: Decimal | None
    created_at: datetime
    is_duplicate: bool
    """Whether it was booked before; the amounts are those of that time."""

    @classmethod
    def of(cls, row: Mapping[str, Any], *, is_duplicate: bool) -> Self:
        """The same of a row of the ledger, which has more than that."""
        names = (name for name in cls.__dataclass_fields__ if name != "is_duplicate")
        return cls(**{name: row[name] for name in names}, is_duplicate=is_duplicate)
