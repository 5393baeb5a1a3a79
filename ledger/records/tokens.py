"""What a call used, in tokens, of which none is counted twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger.records.plain import Record
from ledger.records.refusal import refusal
from ledger.records.rules import tokens_over_whole

GREATEST_COUNT: Final = 2**63 - 1
"""What PostgreSQL's bigint holds."""

_COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCounts(Record):
    """The tokens of one call: two totals, and the parts of them that are priced apart.

    Raises InvalidRecord for a count that is no whole number of at least 0 or exceeds bigint, and
    for parts that are more than their total.
    """

    input_tokens: int = 0
    """All that was sent, tokens read from and written to a cache among them."""
    output_tokens: int = 0
    """All that was generated, reasoning among it."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    def __post_init__(self) -> None:
        for field in _COUNTS:
            count = getattr(self, field)
            if type(count) is not int or not 0 <= count <= GREATEST_COUNT:
                raise refusal(field, count, f"not a whole number from 0 to {GREATEST_COUNT}")
        if (
            self.reasoning_tokens > self.output_tokens
            or self.cache_read_tokens + self.cache_write_tokens > self.input_tokens
        ):
            error = tokens_over_whole({field: getattr(self, field) for field in _COUNTS})
            assert error is not None
            raise error
