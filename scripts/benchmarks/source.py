"""The source's table and indexes over the same rows, and its answers to the same questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

_INDEXES: Final = (
    "UNIQUE INDEX ON public.source_usage (request_id, user_id)",
    "INDEX ON public.source_usage (user_id, created_at)",
    "INDEX ON public.source_usage (provider_id, created_at)",
    "INDEX ON public.source_usage (model_id, created_at)",
    "INDEX ON public.source_usage (status)",
    (
        "INDEX idx_token_usage_analytics ON public.source_usage"
        " (created_at DESC, status, provider_id, user_id)"
        " INCLUDE (gross_margin_usd, vendor_cost, credits_deducted, input_tokens, output_tokens)"
    ),
    (
        "INDEX idx_token_usage_success ON public.source_usage (created_at DESC)"
        " WHERE status = 'success'"
    ),
)


def make(connection: Connection) -> None:
    """A copy of the booked calls, indexed as the source has it."""
    connection.execute(
        text(
            "CREATE TABLE public.source_usage AS SELECT id, request_id, user_id, model_id,"
            " provider_id, vendor_cost, credits_deducted, margin_multiplier, gross_margin_usd,"
            " status, created_at, input_tokens, output_tokens FROM ledger.token_usage_ledger"
        )
    )
    connection.execute(text("ALTER TABLE public.source_usage ADD PRIMARY KEY (id)"))
    for index in _INDEXES:
        connection.execute(text(f"CREATE {index}"))


KPI: Final = b"""
SELECT created_at >= %(start)s, count(*), sum(vendor_cost), sum(gross_margin_usd),
  sum(credits_deducted)
FROM public.source_usage
WHERE created_at >= %(before)s AND created_at < %(end)s AND status = 'success'
GROUP BY 1"""

PROVIDERS: Final = b"""
SELECT provider_id, count(*), sum(vendor_cost), sum(gross_margin_usd), sum(credits_deducted)
FROM public.source_usage WHERE created_at >= %(start)s AND created_at < %(end)s GROUP BY 1"""

TREND: Final = b"""
SELECT date_trunc('day', created_at, 'UTC'), count(*), sum(vendor_cost), sum(gross_margin_usd),
  sum(credits_deducted)
FROM public.source_usage
WHERE created_at >= %(start)s AND created_at < %(end)s AND status = 'success'
GROUP BY 1"""
