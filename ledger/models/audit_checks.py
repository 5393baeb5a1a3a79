"""What holds in every row of `execution_ledger`, a CHECK a rule."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint

ERASED_TEXT: Final = "[erased]"
"""What is left of the intent and of an error message."""

ERASED_FORM: Final = (
    f"intent = '{ERASED_TEXT}' AND input = '{{}}' AND coalesce(output, '{{}}') = '{{}}'"
    " AND cost_json = jsonb_build_object('breakdown', '{}'::jsonb, 'total', cost_json -> 'total')"
    " AND execution_trace_json = jsonb_build_object('steps', '[]'::jsonb,"
    " 'duration_ms', execution_trace_json -> 'duration_ms')"
    f" AND coalesce(error_message, '{ERASED_TEXT}') = '{ERASED_TEXT}'"
)
"""What holds in a row whose payloads are erased, beside its having no salt."""

HASH_BYTES: Final = 32
PAYLOADS: Final = (
    "intent",
    "input",
    "output",
    "cost_json",
    "execution_trace_json",
    "error_message",
)
"""What can be erased, in the order of their digests."""


def execution_checks() -> tuple[CheckConstraint, ...]:
    """The rules, for the one table that they are made for."""
    return (
        CheckConstraint("ledger.uuid_time(id) = created_at", name="id_time"),
        CheckConstraint("run_id <> '' AND agent_id <> '' AND intent <> ''", name="names"),
        CheckConstraint("parent_run_id <> '' AND parent_run_id <> run_id", name="parent"),
        CheckConstraint("status IN ('completed', 'failed', 'aborted')", name="status"),
        CheckConstraint(
            "error_message <> '' AND (status = 'completed' OR error_message IS NOT NULL)",
            name="error_message",
        ),
        CheckConstraint(
            "jsonb_typeof(input) = 'object' AND jsonb_typeof(output) = 'object'", name="payloads"
        ),
        CheckConstraint(
            "coalesce(cost_json -> 'total' = to_jsonb(total_cost_cents), false)"
            " AND total_cost_cents >= 0 AND total_cost_cents <> 'NaN'",
            name="cost",
        ),
        CheckConstraint(
            "coalesce(execution_trace_json -> 'duration_ms' = to_jsonb(duration_ms), false)"
            " AND duration_ms >= 0",
            name="trace",
        ),
        CheckConstraint(
            f"sequence > 0 AND hash_version = 1 AND octet_length(previous_hash) = {HASH_BYTES}"
            f" AND octet_length(hash) = {HASH_BYTES} AND octet_length(salt) = {HASH_BYTES}"
            f" AND octet_length(payload_digests) = {HASH_BYTES * len(PAYLOADS)}",
            name="chain",
        ),
        CheckConstraint(f"salt IS NOT NULL OR ({ERASED_FORM})", name="erased"),
    )
