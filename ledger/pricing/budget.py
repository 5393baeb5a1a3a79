"""`ExecutionBudget`: what a run of an agent may spend, accounted while it runs, in US cents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from threading import Lock
from typing import Final, Literal, TypeAlias

from ledger.errors import BudgetExceeded, InvalidArgument, UnknownPrice
from ledger.pricing.budget_rates import Amount, BudgetRates, cents_of, token_units, units_of
from ledger.pricing.price import PriceList
from ledger.records.amounts import USD_DECIMALS, USD_DIGITS, exactly
from ledger.records.budget import BudgetMetrics, Penalty
from ledger.records.execution_parts import CostBreakdown, ExecutionCost
from ledger.records.prices import STANDARD, Unpriced
from ledger.records.refusal import shown
from ledger.records.rules import require_text
from ledger.records.tokens import GREATEST_COUNT, TokenCounts

Part: TypeAlias = Literal["tokens", "tool_calls", "external_requests", "penalties"]

_MOST_UNITS: Final = 10 ** (USD_DIGITS + USD_DECIMALS)


class ExecutionBudget:
    """What one run of an agent may spend, in US cents, and what it has spent.

    What is spent is accounted, beyond the budget too: `is_exceeded` and `require` say when to
    stop. Each accounting is rounded once, half-even, to 12 decimals; sums are exact. Tokens that
    the price list prices come to 12 decimals of a US dollar, as they are billed. One that raises
    has accounted nothing. Threads and tasks may share a budget. None for ``rates`` is
    `BudgetRates()`.

    Here and in each accounting, raises InvalidArgument for an amount of cents that is negative,
    NaN, infinite, no number, or of more than 12 digits before the decimal point, as the total
    would be with it, for more calls or requests than bigint holds, and for other ``rates`` and
    ``prices`` than are named here; InvalidRecord for a name or reason that is no text of 1 to
    255 characters.
    """

    def __init__(
        self,
        run_id: str,
        agent_id: str,
        budget_cents: Amount | None,
        *,
        rates: BudgetRates | None = None,
        prices: PriceList | None = None,
    ) -> None:
        require_text("run_id", run_id)
        require_text("agent_id", agent_id)
        for name, given, kind in (("rates", rates, BudgetRates), ("prices", prices, PriceList)):
            if given is not None and not isinstance(given, kind):
                wanted = kind.__name__
                raise InvalidArgument(
                    f"{name} {shown(given)} is neither {wanted} nor None; pass ledger.{wanted}(...)"
                )
        self.run_id: Final = run_id
        self.agent_id: Final = agent_id
        units = None if budget_cents is None else units_of("budget_cents", budget_cents)
        self.budget_cents: Final = None if units is None else cents_of(units)
        """What may be spent; None for no limit."""
        self._rates, self._prices = rates or BudgetRates(), prices
        self._lock = Lock()
        self._spent_units = 0
        self._part_units: dict[Part, int] = {}
        self._counts: dict[Part, Counter[str]] = {}
        self._penalties: list[Penalty] = []
        self._is_closed = False

    @property
    def spent_cents(self) -> Decimal:
        """What has been spent."""
        return cents_of(self._spent_units)

    @property
    @exactly
    def remaining_cents(self) -> Decimal | None:
        """What may still be spent, at least 0; None for no limit."""
        limit = self.budget_cents
        return None if limit is None else max(limit - self.spent_cents, Decimal(0))

    @property
    def is_exceeded(self) -> bool:
        """More is spent than the budget, which may be spent to the last cent."""
        return self.budget_cents is not None and self.spent_cents > self.budget_cents

    def require(self) -> None:
        """Raise BudgetExceeded where more is spent than the budget."""
        spent_cents = self.spent_cents
        if self.budget_cents is not None and spent_cents > self.budget_cents:
            raise BudgetExceeded(self.run_id, self.budget_cents, spent_cents)

    def account_tokens(  # noqa: PLR0913 - a call is known by no less
        self,
        input_tokens: int,
        output_tokens: int,
        model: str | None = None,
        *,
        provider: str | None = None,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        reasoning_tokens: int = 0,
        service_tier: str = STANDARD,
        at: datetime | None = None,
    ) -> Decimal:
        """Account one call of a model, and give the cents that it cost.

        The totals include their parts, as in `TokenCounts`. A model costs what the price list has
        for that service tier at that aware moment, or now; where it has nothing, and without a
        model, the rates count. A model of one provider needs no ``provider``.

        Raises UnknownPrice where the rates do not cover such tokens either, InvalidArgument for
        a model of several providers and a naive ``at``, and InvalidRecord for counts that
        `TokenCounts` refuses.
        """
        names = {"model": model, "provider": provider, "service_tier": service_tier}
        for field, name in names.items():
            if name is not None:
                require_text(field, name)
        tokens = TokenCounts(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=cache_read_tokens,
            cache_write_tokens=cache_write_tokens,
            reasoning_tokens=reasoning_tokens,
        )
        units = token_units(
            tokens,
            prices=self._prices,
            rates=self._rates,
            model=model,
            provider=provider,
            service_tier=service_tier,
            at=at,
        )
        if isinstance(units, Unpriced):
            raise UnknownPrice(
                f"{units.sentence}, and the rates do not cover these tokens; add the price to the"
                " price list, which runs read as they begin, or give BudgetRates"
                " input_cents_per_million and output_cents_per_million, and account them again"
            )
        return self._account("tokens", units, {"input": input_tokens, "output": output_tokens})

    def account_tool_call(self, name: str, cents: Amount | None = None) -> Decimal:
        """Account one call of a tool, at its rate or at ``cents``, and give what it cost."""
        require_text("name", name)
        if cents is None:
            cents = self._rates.tool_calls_cents.get(name, self._rates.tool_call_cents)
        return self._account("tool_calls", units_of("cents", cents), {name: 1})

    def account_external_request(
        self, name: str, count: int = 1, cents: Amount | None = None
    ) -> Decimal:
        """Account requests to a service, each at its rate or at ``cents``, and give their sum.

        Raises InvalidArgument for a count that is no whole number from 0 to bigint's greatest.
        """
        require_text("name", name)
        if type(count) is not int or not 0 <= count <= GREATEST_COUNT:
            rule = f"is not a whole number from 0 to {GREATEST_COUNT}"
            raise InvalidArgument(f"count {shown(count)} {rule}; pass how many were sent")
        if cents is None:
            rates = self._rates
            cents = rates.external_requests_cents.get(name, rates.external_request_cents)
        return self._account("external_requests", units_of("cents", cents, count), {name: count})

    def account_penalty(self, cents: Amount, reason: str | None = None) -> Decimal:
        """Account what a run is charged beyond what it used, and give that."""
        if reason is not None:
            require_text("reason", reason)
        units = units_of("cents", cents)
        return self._account("penalties", units, {}, [(reason, cents_of(units))])

    def close(self) -> None:
        """Refuse what is accounted from now on; what was accounted can still be read.

        A run does so as it ends, or what a thread accounts later would be in no record.
        """
        with self._lock:
            self._is_closed = True

    def metrics(self) -> BudgetMetrics:
        """What is spent, and on what, at one moment."""
        with self._lock:
            units, penalties = Counter(self._part_units), tuple(self._penalties)
            counts = {part: dict(found) for part, found in self._counts.items()}
        total_cents, tokens = cents_of(units.total()), counts.get("tokens", {})
        return BudgetMetrics(
            budget_cents=self.budget_cents,
            total_cents=total_cents,
            tokens_cents=cents_of(units["tokens"]),
            tool_calls_cents=cents_of(units["tool_calls"]),
            external_requests_cents=cents_of(units["external_requests"]),
            penalties_cents=cents_of(units["penalties"]),
            input_tokens=tokens.get("input", 0),
            output_tokens=tokens.get("output", 0),
            tool_calls=counts.get("tool_calls", {}),
            external_requests=counts.get("external_requests", {}),
            penalties=penalties,
            is_exceeded=self.budget_cents is not None and total_cents > self.budget_cents,
        )

    def cost(self) -> ExecutionCost:
        """What the run cost, as an `Execution` has it; a part never accounted is left out."""
        with self._lock:
            units = dict(self._part_units)
        breakdown = CostBreakdown(**{part: cents_of(number) for part, number in units.items()})
        return ExecutionCost(total=cents_of(sum(units.values())), breakdown=breakdown)

    def _account(
        self, part: Part, units: int, counts: Mapping[str, int], penalties: Iterable[Penalty] = ()
    ) -> Decimal:
        cents = cents_of(units)
        with self._lock:
            if self._is_closed:
                raise InvalidArgument(
                    f"{part} of {cents} cents came after run {self.run_id!r} had ended, and are not"
                    " in its record; wait for what a run has begun before its block ends"
                )
            counted = self._counts.setdefault(part, Counter())
            # In whole numbers, of which no decimal context rounds the sum.
            spent, count = self._spent_units + units, sum(counts.values(), counted.total())
            if spent >= _MOST_UNITS:
                raise InvalidArgument(
                    f"{part} of {cents} cents would bring run {self.run_id!r} to"
                    f" {cents_of(spent)}, which has more than {USD_DIGITS} digits before the"
                    " decimal point; check the amount and its unit"
                )
            # Of tokens a run's record has the cost alone.
            if part != "tokens" and count > GREATEST_COUNT:
                raise InvalidArgument(
                    f"{part} of run {self.run_id!r} would be {count}, and at most"
                    f" {GREATEST_COUNT} can be recorded; check the count"
                )
            self._spent_units = spent
            self._part_units[part] = self._part_units.get(part, 0) + units
            counted.update(counts)
            self._penalties.extend(penalties)
        return cents
