"""Invented calls to language models that look like a real application's, the same for a seed."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

from ledger.cli.callers import Callers, invented_uuid
from ledger.cli.catalogue import models, urn
from ledger.cli.outcomes import ANSWERED, outcome
from ledger.cli.rhythm import episodes, moments
from ledger.errors import InvalidArgument
from ledger.records.transaction import Transaction
from ledger.window import utc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from ledger.cli.catalogue import Model


def invented_users(count: int, *, seed: int) -> list[UUID]:
    """So many users, the same for a seed."""
    random = Random(f"users {seed}")  # noqa: S311 - invented, and the same again
    return [invented_uuid(random) for _ in range(count)]


def generate(  # noqa: PLR0913 - each says something of its own
    rows: int,
    *,
    seed: int,
    end: datetime,
    days: int,
    users: Sequence[UUID],
    catalogue: Sequence[Model] | None = None,
) -> Iterator[Transaction]:
    """Exactly ``rows`` calls in the ``days`` before ``end``, oldest first, in constant memory.

    The same arguments give the same calls. The first of ``users`` makes a quarter of them.
    Raises InvalidArgument, before the first call is drawn, where the arguments allow none.
    """
    if rows < 0:
        raise InvalidArgument(f"rows is {rows}; pass 0 or more")
    if days < 1:
        raise InvalidArgument(f"days is {days}; pass 1 or more")
    if not users:
        raise InvalidArgument("there are no users to make calls; pass one or more")
    return _generate(
        rows,
        seed=seed,
        end=utc(end, "end"),
        days=days,
        users=users,
        catalogue=models() if catalogue is None else catalogue,
    )


def _generate(  # noqa: PLR0913 - its caller's
    rows: int,
    *,
    seed: int,
    end: datetime,
    days: int,
    users: Sequence[UUID],
    catalogue: Sequence[Model],
) -> Iterator[Transaction]:
    random = Random(seed)  # noqa: S311 - invented, and the same again
    start = end - timedelta(days=days)
    providers = list(dict.fromkeys(model.provider for model in catalogue))
    troubles = episodes(providers, start=start, end=end, random=random)
    callers = Callers(users, random)
    called = urn({model: model.weight for model in catalogue})
    schedule = moments(rows, start=start, end=end, troubles=troubles, random=random)
    for number, (timestamp, active) in enumerate(schedule):
        model = random.choice(called)
        caller = callers.draw()
        call = outcome(model, active.get(model.provider), random)
        yield Transaction(
            timestamp=timestamp,
            user_id=caller.user_id,
            provider=model.provider,
            model=model.model,
            response_model=model.response_model if call.http_status_code == ANSWERED else None,
            operation=model.operation,
            session_id=caller.session_id,
            project_id=caller.project_id,
            # Not drawn: the same seed is the same calls, and writing them twice adds nothing.
            request_id=f"seed-{seed}-{number}",
            **caller.purpose._asdict(),
            **call._asdict(),
        )
