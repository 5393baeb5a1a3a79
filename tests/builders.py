"""Valid records in one line, so that a test names only what matters."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from ledger.records.transaction import Transaction

USER: Final = UUID("0b5c6d1e-5a0f-4c1d-9d57-6f1f3c0b7a10")


def fields(**what_matters: Any) -> dict[str, Any]:
    """The fields of a valid transaction, as a caller that has no Transaction would send them."""
    return {
        "user_id": USER,
        "provider": "openai",
        "model": "gpt-4o",
        "latency_ms": 250,
        **what_matters,
    }


def transaction(**what_matters: Any) -> Transaction:
    """A valid transaction, made now unless another timestamp is given."""
    return Transaction(**fields(**what_matters))
