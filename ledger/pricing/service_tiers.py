"""Service tiers: the price list by which a call is billed, as its usage tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ledger.pricing.payloads import ProviderApi, cache_writes, optional, require_usage
from ledger.records.prices import STANDARD

CACHE_1H: Final = "cache_1h"
"""All that was written to the cache is kept for an hour, not for five minutes."""
CACHE_MIXED: Final = "cache_mixed"
"""What was written to the cache is kept for different times."""
FAST: Final = "fast"
"""Anthropic's fast mode."""

_NAMES: Final = {
    "default": STANDARD,  # OpenAI
    "on_demand": STANDARD,  # Vertex AI and Groq
    "on_demand_flex": "flex",
    "on_demand_priority": "priority",
}
"""The tiers that some providers call by another name than most."""
_FIELDS: Final = ("service_tier", "serviceTier", "trafficType", "traffic_type")
_EVERYWHERE: Final = frozenset({"global", "not_available"})


def service_tier_of(
    provider_api: ProviderApi, usage: Mapping[str, Any], *, service_tier: str | None = None
) -> str:
    """The service tier that a call is to be priced by.

    ``service_tier`` is what the response says beside its usage, as OpenAI's do; where it says
    none, the usage's own counts. To the tier is added, after a plus, what makes tokens dearer or
    cheaper than their counts can say, for example `standard+cache_1h` or `batch+audio`: a
    catalogue has a price for it, or the call is unpriced, but never priced as something else.
    Anthropic's fast mode is the tier `fast`, unless the call has another.

    The tier in the response counts, not the one in the request: `auto` names no price.

    Raises InvalidArgument for an unknown API, and InvalidRecord for usage of another shape.
    """
    require_usage(provider_api, usage)
    named = service_tier or next(filter(None, map(usage.get, _FIELDS)), STANDARD)
    tier = str(getattr(named, "value", named)).lower()
    tier = _NAMES.get(tier, tier)
    extras = _EXTRAS[provider_api](usage)
    if tier == STANDARD and FAST in extras:
        extras.remove(FAST)
        tier = FAST
    return "+".join([tier, *extras])


def _openai(usage: Mapping[str, Any]) -> list[str]:
    details = (
        "prompt_tokens_details",
        "completion_tokens_details",
        "input_tokens_details",
        "output_tokens_details",
    )
    made_of_images = ("completion_tokens_details", "input_tokens_details", "output_tokens_details")
    found = {
        "audio": any(optional(usage, field, "audio_tokens") for field in details),
        "image": any(optional(usage, field, "image_tokens") for field in made_of_images),
    }
    return [name for name, is_in in found.items() if is_in]


def _anthropic(usage: Mapping[str, Any]) -> list[str]:
    extras = []
    if (speed := usage.get("speed") or STANDARD) != STANDARD:
        extras.append(str(speed))
    kept = cache_writes(usage).keys()
    if kept == {"ephemeral_1h_input_tokens"}:
        extras.append(CACHE_1H)
    elif kept - {"ephemeral_5m_input_tokens"}:
        extras.append(CACHE_MIXED)
    # In the US alone, tokens cost a tenth more.
    if (place := str(usage.get("inference_geo") or "global")) not in _EVERYWHERE:
        extras.append(place)
    return extras


def _google(usage: Mapping[str, Any]) -> list[str]:
    # An image that is sent costs what text does; one that is made is dearer.
    found = {"audio": _has(usage, "AUDIO"), "image": _has(usage, "IMAGE", of="candidates")}
    return [name for name, is_in in found.items() if is_in]


def _has(usage: Mapping[str, Any], modality: str, of: str = "") -> bool:
    return any(
        str(part.get("modality")).upper().endswith(modality)
        for name, parts in usage.items()
        if name.startswith(of) and name.endswith(("TokensDetails", "_tokens_details"))
        if isinstance(parts, Sequence)
        for part in parts
        if isinstance(part, Mapping)
    )


_EXTRAS: Final[dict[ProviderApi, Callable[[Mapping[str, Any]], list[str]]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "google": _google,
}
