"""What a transaction's values must satisfy beyond their types: parts, money, JSON."""

from __future__ import annotations

import json
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import PydanticSerializationError, to_json

from ledger.records.refusal import refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from ledger.errors import InvalidRecord

MOST_ATTRIBUTES_BYTES: Final = 64 * 1024

_JSONB_VERSION: Final = "\x01"
NO_ATTRIBUTES: Final = _JSONB_VERSION + "{}"

_DIGITS_PYTHON_READS: Final = 4_300
_LAST_DECIMAL: Final = Decimal("1E-12")
_KEPT_EXPONENTS: Final = range(-12, 1)
_MOST_USD: Final = Decimal(10**12)
# Not the thread's context, whose precision belongs to the host.
_MONEY: Final = Context(prec=64, rounding=ROUND_HALF_EVEN, traps=[])


def tokens_over_whole(counts: Mapping[str, Any]) -> InvalidRecord | None:
    """The error for counts of which some part is greater than the total that includes it."""
    cached = counts["cache_read_tokens"] + counts["cache_write_tokens"]
    for field, part, whole in (
        ("reasoning_tokens", counts["reasoning_tokens"], "output_tokens"),
        ("cache_read_tokens + cache_write_tokens", cached, "input_tokens"),
    ):
        if part > counts[whole]:
            return refusal(field, part, f"more than {whole}, {counts[whole]}, which include them")
    return None


def part_over_whole(values: dict[str, Any]) -> InvalidRecord:
    """The error for a transaction of which some part is greater than what includes it."""
    rule = f"longer than latency_ms, {values['latency_ms']}"
    return tokens_over_whole(values) or refusal(
        "time_to_first_token_ms", values["time_to_first_token_ms"], rule
    )


def require_text(field: str, text: object, longest: int = 255) -> None:
    """Raise InvalidRecord for what is not a text that PostgreSQL can store, of 1 to ``longest``."""
    if not isinstance(text, str) or not 0 < len(text) <= longest:
        raise refusal(field, text, f"not a text of 1 to {longest} characters")
    if "\0" in text:
        raise refusal(field, text, "holds a NUL character, which PostgreSQL cannot store")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise refusal(field, text, "is not Unicode text; it holds a lone surrogate")


def rounded(cost: Decimal, field: str = "cost_usd") -> Decimal:
    """The cost in US dollars, half-even to 12 decimals, of at most 12 digits before them."""
    kept = _MONEY.quantize(cost, _LAST_DECIMAL)
    if kept.is_nan() or kept >= _MOST_USD:  # NaN: more digits than the context has
        raise refusal(field, cost, "more than 12 digits before the decimal point")
    # The digits that were sent, where there is nothing to round; but not zeros without end.
    return cost if kept == cost and cost.as_tuple().exponent in _KEPT_EXPONENTS else kept


def jsonb(attributes: dict[str, JsonValue]) -> str:
    """Attributes as PostgreSQL receives binary JSONB: a version byte, then JSON."""
    try:
        text = to_json(attributes)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise refusal("attributes", attributes, f"not writable as JSON: {error}") from None
    if len(text) > MOST_ATTRIBUTES_BYTES:
        rule = f"{len(text):,} bytes as JSON, over the limit of {MOST_ATTRIBUTES_BYTES:,}"
        raise refusal("attributes", attributes, rule)
    if b"\\u0000" in text and _holds_nul(attributes):
        raise refusal("attributes", attributes, "holds a NUL character")
    if len(text) > _DIGITS_PYTHON_READS:
        try:
            json.loads(text)
        except ValueError as error:
            raise refusal("attributes", attributes, f"unreadable as JSON: {error}") from None
    return _JSONB_VERSION + text.decode()


def _holds_nul(value: JsonValue) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in key or _holds_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_holds_nul, value))
