"""Tokens from the usage that providers send, each of which counts them in its own way.

Written against the usage of OpenAI's Chat Completions, Responses and Embeddings, Anthropic's
Messages and Google's generateContent as their own SDKs type it in November 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from ledger.errors import InvalidArgument, InvalidRecord
from ledger.records.refusal import refusal, shown
from ledger.records.tokens import TokenCounts

if TYPE_CHECKING:
    from collections.abc import Iterable

ProviderApi = Literal["openai", "anthropic", "google"]


def tokens_of(provider_api: ProviderApi, usage: Mapping[str, Any]) -> TokenCounts:
    """The tokens that a response's usage counts, as inclusive totals.

    ``usage`` is the response's `usage`, Google's `usageMetadata`, as JSON has it; Google's in
    snake case too, as its SDK dumps it. Other providers that speak one of these are read like
    it. Not every difference in price is one in tokens: `service_tier_of` has the rest.

    Raises InvalidRecord for usage of another shape, of which some tokens would be missed, and
    InvalidArgument for an unknown API.
    """
    require_usage(provider_api, usage)
    return _READERS[provider_api](usage)


def require_usage(provider_api: str, usage: object) -> None:
    """Raise InvalidArgument for an unknown API, InvalidRecord for a usage that is no mapping."""
    if provider_api not in get_args(ProviderApi):
        raise InvalidArgument(
            f"{shown(provider_api)} is not an API whose usage is known; use one of"
            f" {', '.join(get_args(ProviderApi))}, or count the tokens yourself"
        )
    if not isinstance(usage, Mapping):
        raise refusal("usage", usage, "not a mapping; pass it as JSON has it")


def _openai(usage: Mapping[str, Any]) -> TokenCounts:
    """Totals include their parts: cached and written tokens, reasoning."""
    if "prompt_tokens" in usage:
        sent, generated = "prompt_tokens", "completion_tokens"
    elif "input_tokens" in usage:
        sent, generated = "input_tokens", "output_tokens"
    else:
        raise InvalidRecord("usage has neither prompt_tokens nor input_tokens")
    if (details := usage.get("input_token_details")) is not None:
        rule = "of the Realtime API, which this does not read: it has text and audio to tell apart"
        raise refusal("input_token_details", details, rule)
    input_tokens = required(usage, sent)
    is_embedding = generated not in usage and usage.get("total_tokens") == input_tokens
    output_tokens = 0 if is_embedding else required(usage, generated)
    # Others who speak this API count reasoning beside the completion, not in it.
    _require_no_more(usage, "total_tokens", input_tokens + output_tokens)
    return TokenCounts(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=optional(usage, f"{sent}_details", "cached_tokens"),
        cache_write_tokens=optional(usage, f"{sent}_details", "cache_write_tokens"),
        reasoning_tokens=optional(usage, f"{generated}_details", "reasoning_tokens"),
    )


def _anthropic(usage: Mapping[str, Any]) -> TokenCounts:
    """`input_tokens` are those that no cache had part in; thinking is part of the output."""
    iterations = usage.get("iterations") or ()
    if not isinstance(iterations, Sequence):
        raise refusal("iterations", iterations, "not a list")
    if others := sorted({_type(each) for each in iterations} - {"message"}):
        raise refusal(
            "iterations",
            others,
            "are billed, and left out of the totals; record each iteration as a call, of its own"
            " model where it names one",
        )
    cache_read = optional(usage, "cache_read_input_tokens")
    by_lifetime = sum(cache_writes(usage).values())
    cache_write = optional(usage, "cache_creation_input_tokens") or by_lifetime
    if by_lifetime > cache_write:
        rule = f"more than cache_creation_input_tokens, {cache_write}, which include them"
        raise refusal("cache_creation", by_lifetime, rule)
    return TokenCounts(
        input_tokens=required(usage, "input_tokens") + cache_read + cache_write,
        output_tokens=required(usage, "output_tokens"),
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        reasoning_tokens=optional(usage, "output_tokens_details", "thinking_tokens"),
    )


def _google(usage: Mapping[str, Any]) -> TokenCounts:
    """The prompt includes what was cached, but not results of tools; output has no thoughts.

    A count of 0 is left out.
    """
    if "prompt_token_count" in usage:
        usage = {_camel(name): value for name, value in usage.items()}
    thoughts = optional(usage, "thoughtsTokenCount")
    counts = TokenCounts(
        input_tokens=required(usage, "promptTokenCount")
        + optional(usage, "toolUsePromptTokenCount"),
        output_tokens=optional(usage, "candidatesTokenCount") + thoughts,
        cache_read_tokens=optional(usage, "cachedContentTokenCount"),
        reasoning_tokens=thoughts,
    )
    _require_no_more(usage, "totalTokenCount", counts.input_tokens + counts.output_tokens)
    return counts


_READERS: Final[dict[ProviderApi, Callable[[Mapping[str, Any]], TokenCounts]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "google": _google,
}


def cache_writes(usage: Mapping[str, Any]) -> dict[str, int]:
    """Tokens that Anthropic wrote to its cache, by the name of how long they are kept."""
    kept = usage.get("cache_creation")
    names: Iterable[str] = kept if isinstance(kept, Mapping) else ()
    return {name: tokens for name in names if (tokens := optional(usage, "cache_creation", name))}


def required(usage: Mapping[str, Any], name: str) -> int:
    """The count of that name. Raises InvalidRecord where there is none."""
    if usage.get(name) is None:
        raise InvalidRecord(f"usage has no {name}")
    return optional(usage, name)


def optional(usage: Mapping[str, Any], *path: str) -> int:
    """The count at the end of the path, 0 where it is missing or null.

    Raises InvalidRecord for one that is no count.
    """
    value: Any = usage
    for name in path:
        if value is None:
            return 0
        if not isinstance(value, Mapping):
            raise refusal(".".join(path), value, "not a mapping")
        value = value.get(name)
    if value is None:
        return 0
    if type(value) is not int or value < 0:
        raise refusal(".".join(path), value, "not a whole number of tokens")
    return value


def _require_no_more(usage: Mapping[str, Any], name: str, counted: int) -> None:
    if (total := optional(usage, name)) > counted:
        rule = f"more than the {counted} tokens of its parts that are known"
        raise refusal(name, total, rule)


def _type(iteration: object) -> str:
    return str(iteration.get("type")) if isinstance(iteration, Mapping) else shown(iteration)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))
