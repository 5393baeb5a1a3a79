"""How a seeded call goes: answered, refused, cut off, or never answered at all."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from ledger.cli.catalogue import LogNormal, urn
from ledger.cli.rhythm import Episode, Trouble

if TYPE_CHECKING:
    from random import Random

    from ledger.cli.catalogue import Model

ANSWERED = 200
TIMEOUT_MS = 60_000
SHORTEST_CACHED_PROMPT = 1_024
"""Tokens; providers cache no shorter prompts."""
CANCELLED_SHARE = 0.003
NOTHING = Decimal(0)

CACHE_WRITTEN_SHARE = 0.5


class Failure(Enum):
    """What goes wrong with a call."""

    RATE_LIMIT = auto()
    SERVER_ERROR = auto()
    BAD_REQUEST = auto()
    HANGS = auto()


ORDINARY_FAILURES = urn(
    {
        Failure.RATE_LIMIT: 8,
        Failure.SERVER_ERROR: 5,
        Failure.BAD_REQUEST: 5,
        Failure.HANGS: 2,
    }
)
EPISODE_FAILURES = {
    Trouble.RATE_LIMIT: [Failure.RATE_LIMIT],
    Trouble.OUTAGE: urn({Failure.SERVER_ERROR: 3, Failure.HANGS: 1}),
}

REFUSAL_MS = {
    Failure.RATE_LIMIT: LogNormal(median=140, sigma=0.5),
    Failure.SERVER_ERROR: LogNormal(median=1_800, sigma=0.9, most=TIMEOUT_MS - 1),
    Failure.BAD_REQUEST: LogNormal(median=220, sigma=0.5),
}
REFUSALS = {
    Failure.RATE_LIMIT: [
        (429, "rate_limit_exceeded", "Rate limit reached; try again in a few seconds"),
    ],
    Failure.SERVER_ERROR: [
        (500, "server_error", "The server had an error while answering"),
        (502, "bad_gateway", "Bad gateway"),
        (503, "overloaded", "The model is overloaded; try again later"),
    ],
    Failure.BAD_REQUEST: [
        (400, "context_length_exceeded", "The prompt is longer than the model's context"),
        (400, "invalid_request", "The request names a tool that was not declared"),
        (403, "content_filter", "The prompt was refused by the content policy"),
    ],
}


class Outcome(NamedTuple):
    """The part of a call that depends on how it went."""

    latency_ms: int
    is_streaming: bool
    time_to_first_token_ms: int | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: Decimal | None = None
    http_status_code: int | None = ANSWERED
    error_type: str | None = None
    error_message: str | None = None


def outcome(model: Model, episode: Episode | None, random: Random) -> Outcome:
    """How a call to this model goes while its provider is, or is not, in trouble."""
    is_streaming = random.random() < model.streaming_share
    failure = _failure(model, episode, random)
    if failure is None or failure is Failure.HANGS:
        return _sent(model, random, is_streaming=is_streaming, hangs=failure is not None)
    status, error_type, message = random.choice(REFUSALS[failure])
    return Outcome(
        latency_ms=REFUSAL_MS[failure].at(random.gauss(0, 1)),
        is_streaming=is_streaming,
        cost_usd=None if model.price is None else NOTHING,
        http_status_code=status,
        error_type=error_type,
        error_message=message,
    )


def _failure(model: Model, episode: Episode | None, random: Random) -> Failure | None:
    if episode is not None and random.random() < episode.share:
        return random.choice(EPISODE_FAILURES[episode.trouble])
    if random.random() < model.error_rate:
        return random.choice(ORDINARY_FAILURES)
    return None


def _sent(model: Model, random: Random, *, is_streaming: bool, hangs: bool) -> Outcome:
    length = random.gauss(0, 1)
    # Longer answers take longer, and much else matters besides.
    latency_ms = model.latency_ms.at(0.6 * length + 0.8 * random.gauss(0, 1))
    first_ms = None
    if is_streaming and model.time_to_first_token_ms is not None:
        first_ms = model.time_to_first_token_ms.at(random.gauss(0, 1))
    output_tokens = 0 if model.output_tokens is None else model.output_tokens.at(length)
    error_type = message = None
    status: int | None = ANSWERED
    if hangs or latency_ms >= TIMEOUT_MS:
        latency_ms, status, error_type = TIMEOUT_MS, None, "timeout"
        message = "No complete answer within 60 s"
        # What had been streamed until then is charged for.
        output_tokens = 0 if hangs or first_ms is None else output_tokens // 2
    elif first_ms is not None and random.random() < CANCELLED_SHARE:
        latency_ms, output_tokens = max(latency_ms // 3, 1), output_tokens // 3
        error_type, message = "cancelled", "The caller hung up"
    input_tokens, cache_read, cache_write = _prompt(model, random)
    reasoning_tokens = 0
    if output_tokens and random.random() < model.reasoning_share:
        reasoning_tokens = int(output_tokens * random.uniform(0.25, 0.85))
    cost_usd = None
    if model.price is not None:
        cost_usd = model.price.cost_usd(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=cache_read,
            cache_write_tokens=cache_write,
        )
    return Outcome(
        latency_ms=latency_ms,
        is_streaming=is_streaming,
        time_to_first_token_ms=None if first_ms is None or hangs else min(first_ms, latency_ms),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        reasoning_tokens=reasoning_tokens,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        cost_usd=cost_usd,
        http_status_code=status,
        error_type=error_type,
        error_message=message,
    )


def _prompt(model: Model, random: Random) -> tuple[int, int, int]:
    """Tokens of a prompt, and those of them read from and written to the provider's cache."""
    tokens = model.input_tokens.at(random.gauss(0, 1))
    if tokens < SHORTEST_CACHED_PROMPT:
        return tokens, 0, 0
    read = written = 0
    if random.random() < model.cached_share:
        read = int(tokens * random.uniform(0.3, 0.95))
    if model.writes_cache and random.random() < CACHE_WRITTEN_SHARE:
        written = int((tokens - read) * random.uniform(0.2, 0.9))
    return tokens, read, written
