from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import pytest
from genai_prices import calc_price, extract_usage

from ledger.errors import InvalidArgument, InvalidRecord
from ledger.pricing.genai import from_genai_prices
from ledger.pricing.payloads import ProviderApi, tokens_of
from ledger.pricing.price import PriceList
from ledger.pricing.service_tiers import service_tier_of
from ledger.records.prices import Priced, Unpriced
from ledger.records.tokens import TokenCounts

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)

CHAT = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 256,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
RESPONSES = {
    "input_tokens": 328_000,
    "input_tokens_details": {"cached_tokens": 300_000, "cache_write_tokens": 1024},
    "output_tokens": 450,
    "output_tokens_details": {"reasoning_tokens": 128},
    "total_tokens": 328_450,
}
EMBEDDINGS = {"prompt_tokens": 8, "total_tokens": 8}
MESSAGES = {
    "input_tokens": 21,
    "cache_creation_input_tokens": 1_886,
    "cache_read_input_tokens": 188_086,
    "cache_creation": {"ephemeral_5m_input_tokens": 1_886, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 393,
    "output_tokens_details": {"thinking_tokens": 200},
    "server_tool_use": None,
    "service_tier": "standard",
    "inference_geo": "not_available",
}
MESSAGES_1H = {
    **MESSAGES,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 1_886},
}
GEMINI = {
    "promptTokenCount": 250_000,
    "cachedContentTokenCount": 240_000,
    "candidatesTokenCount": 512,
    "thoughtsTokenCount": 1_488,
    "toolUsePromptTokenCount": 4_000,
    "totalTokenCount": 256_000,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 250_000}],
    "serviceTier": "standard",
}


def refused(provider_api: ProviderApi, usage: Any) -> str:
    with pytest.raises(InvalidRecord) as error:
        tokens_of(provider_api, usage)
    return str(error.value)


def without(usage: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in usage.items() if name not in names}


# --- counts ---


def test_chat_completions_count_cached_and_reasoning_tokens_in_their_totals() -> None:
    assert tokens_of("openai", CHAT) == TokenCounts(
        input_tokens=2006, cache_read_tokens=1920, output_tokens=300, reasoning_tokens=256
    )


def test_responses_count_what_was_written_to_the_cache_in_their_total_too() -> None:
    assert tokens_of("openai", RESPONSES) == TokenCounts(
        input_tokens=328_000,
        cache_read_tokens=300_000,
        cache_write_tokens=1024,
        output_tokens=450,
        reasoning_tokens=128,
    )


def test_embeddings_have_no_output() -> None:
    assert tokens_of("openai", EMBEDDINGS) == TokenCounts(input_tokens=8)


def test_anthropics_input_is_beside_what_its_cache_read_and_wrote() -> None:
    assert tokens_of("anthropic", MESSAGES) == TokenCounts(
        input_tokens=21 + 1_886 + 188_086,
        cache_read_tokens=188_086,
        cache_write_tokens=1_886,
        output_tokens=393,
        reasoning_tokens=200,
    )


def test_a_cache_for_an_hour_and_one_for_five_minutes_are_counted_once() -> None:
    both = {"ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 100}
    usage = {**MESSAGES, "cache_creation": both, "cache_creation_input_tokens": 556}
    assert tokens_of("anthropic", usage).cache_write_tokens == 556
    told_apart = without(usage, "cache_creation_input_tokens")
    assert tokens_of("anthropic", told_apart) == tokens_of("anthropic", usage)
    assert tokens_of("anthropic", MESSAGES_1H) == tokens_of("anthropic", MESSAGES)


def test_anthropic_without_a_cache_has_only_its_input() -> None:
    usage = {"input_tokens": 5, "output_tokens": 6, "cache_read_input_tokens": None}
    assert tokens_of("anthropic", usage) == TokenCounts(input_tokens=5, output_tokens=6)


def test_geminis_output_is_beside_its_thoughts_and_its_prompt_beside_what_tools_gave() -> None:
    assert tokens_of("google", GEMINI) == TokenCounts(
        input_tokens=250_000 + 4_000,
        cache_read_tokens=240_000,
        output_tokens=512 + 1_488,
        reasoning_tokens=1_488,
    )


def test_gemini_leaves_out_what_is_zero() -> None:
    assert tokens_of("google", {"promptTokenCount": 9}) == TokenCounts(input_tokens=9)


def test_gemini_is_read_as_its_sdk_dumps_it() -> None:
    assert tokens_of(
        "google",
        {
            "prompt_token_count": 9,
            "cached_content_token_count": None,
            "candidates_token_count": 3,
            "thoughts_token_count": 4,
            "tool_use_prompt_token_count": 2,
            "total_token_count": 18,
        },
    ) == TokenCounts(input_tokens=11, output_tokens=7, reasoning_tokens=4)


def test_any_mapping_will_do() -> None:
    assert tokens_of("openai", MappingProxyType(CHAT)) == tokens_of("openai", CHAT)


# --- other shapes ---


@pytest.mark.parametrize(
    "provider_api, usage, told",
    [
        ("openai", {}, "usage has neither prompt_tokens nor input_tokens"),
        ("openai", without(CHAT, "completion_tokens"), "usage has no completion_tokens"),
        ("openai", without(RESPONSES, "output_tokens"), "usage has no output_tokens"),
        ("openai", {**CHAT, "prompt_tokens": None}, "usage has no prompt_tokens"),
        ("anthropic", without(MESSAGES, "input_tokens"), "usage has no input_tokens"),
        ("anthropic", without(MESSAGES, "output_tokens"), "usage has no output_tokens"),
        ("anthropic", CHAT, "usage has no input_tokens"),
        ("google", {}, "usage has no promptTokenCount"),
        ("google", MESSAGES, "usage has no promptTokenCount"),
        ("openai", {**CHAT, "prompt_tokens": -1}, "prompt_tokens -1: not a whole number of tokens"),
        ("openai", {**CHAT, "prompt_tokens": 2006.0}, "prompt_tokens 2006.0: not a whole number"),
        ("openai", {**CHAT, "prompt_tokens": True}, "prompt_tokens True: not a whole number"),
        (
            "openai",
            {**CHAT, "prompt_tokens_details": {"cached_tokens": "1920"}},
            "prompt_tokens_details.cached_tokens '1920': not a whole number of tokens",
        ),
        (
            "openai",
            {**CHAT, "prompt_tokens_details": [1920]},
            "prompt_tokens_details.cached_tokens [1920]: not a mapping",
        ),
        ("anthropic", None, "usage None: not a mapping; pass it as JSON has it"),
    ],
)
def test_usage_of_another_shape_is_refused_by_what_is_missing(
    provider_api: ProviderApi, usage: Any, told: str
) -> None:
    assert refused(provider_api, usage).startswith(told)


def test_usage_of_the_realtime_api_is_not_taken_for_text() -> None:
    usage = {
        "input_tokens": 132,
        "output_tokens": 121,
        "total_tokens": 253,
        "input_token_details": {"text_tokens": 119, "audio_tokens": 13, "cached_tokens": 64},
    }
    assert refused("openai", usage).startswith("input_token_details {'audio_tokens': 13, ")


def test_more_cached_than_sent_is_refused() -> None:
    usage = {**CHAT, "prompt_tokens_details": {"cached_tokens": 2007}}
    assert "more than input_tokens, 2006, which include them" in refused("openai", usage)


def test_reasoning_beside_the_completion_is_not_missed() -> None:
    # As xAI counts it in Chat Completions.
    usage = {
        "prompt_tokens": 32,
        "completion_tokens": 109,
        "total_tokens": 235,
        "completion_tokens_details": {"reasoning_tokens": 94},
    }
    assert refused("openai", usage) == (
        "total_tokens 235: more than the 141 tokens of its parts that are known"
    )


def test_tokens_that_gemini_counts_in_its_total_alone_are_not_missed() -> None:
    usage = without(GEMINI, "thoughtsTokenCount")
    assert refused("google", usage).startswith("totalTokenCount 256000: more than the 254512 tok")


def test_more_by_lifetime_than_written_is_refused() -> None:
    usage = {**MESSAGES, "cache_creation_input_tokens": 5}
    assert refused("anthropic", usage).startswith("cache_creation 1886: more than cache_creation_")


@pytest.mark.parametrize("kind", ["compaction", "advisor_message"])
def test_iterations_that_the_totals_leave_out_are_not_missed(kind: str) -> None:
    message = {**without(MESSAGES, "iterations"), "type": "message"}
    other = {"type": kind, "input_tokens": 180_000, "output_tokens": 3_500}
    assert tokens_of("anthropic", {**MESSAGES, "iterations": [message]}).output_tokens == 393
    usage = {**MESSAGES, "iterations": [other, message]}
    assert refused("anthropic", usage).startswith(f"iterations ['{kind}']: are billed, and left ")
    assert tokens_of("anthropic", other) == TokenCounts(input_tokens=180_000, output_tokens=3_500)


def test_an_unknown_api_is_refused() -> None:
    for ask in (tokens_of, service_tier_of):
        with pytest.raises(InvalidArgument, match=r"'cohere' is not an API .* openai, anthropic, "):
            ask("cohere", {})  # type: ignore[arg-type]


# --- service tiers ---


@pytest.mark.parametrize(
    "provider_api, usage, named, tier",
    [
        ("openai", CHAT, None, "standard"),
        ("openai", CHAT, "default", "standard"),
        ("openai", CHAT, "flex", "flex"),
        (
            "openai",
            {**CHAT, "completion_tokens_details": {"audio_tokens": 1}},
            None,
            "standard+audio",
        ),
        ("anthropic", MESSAGES, None, "standard"),
        ("anthropic", {**MESSAGES, "service_tier": "batch"}, None, "batch"),
        ("anthropic", MESSAGES, "batch", "batch"),
        ("anthropic", {**MESSAGES, "speed": "fast"}, None, "fast"),
        ("anthropic", {**MESSAGES, "speed": "standard"}, None, "standard"),
        ("anthropic", {**MESSAGES, "speed": "fast"}, "batch", "batch+fast"),
        ("anthropic", MESSAGES_1H, None, "standard+cache_1h"),
        ("anthropic", {**MESSAGES_1H, "speed": "fast"}, None, "fast+cache_1h"),
        ("anthropic", {**MESSAGES, "inference_geo": "global"}, None, "standard"),
        ("anthropic", {**MESSAGES, "inference_geo": "us"}, None, "standard+us"),
        ("google", GEMINI, None, "standard"),
        ("google", {"trafficType": "ON_DEMAND"}, None, "standard"),
        ("google", {"trafficType": "ON_DEMAND_FLEX"}, None, "flex"),
        ("google", {"traffic_type": "PROVISIONED_THROUGHPUT"}, None, "provisioned_throughput"),
        ("google", GEMINI, "priority", "priority"),
        (
            "google",
            {"candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 1}]},
            None,
            "standard+audio",
        ),
    ],
)
def test_the_service_tier_is_the_one_that_the_response_names(
    provider_api: ProviderApi, usage: dict[str, Any], named: str | None, tier: str
) -> None:
    assert service_tier_of(provider_api, usage, service_tier=named) == tier


def test_a_cache_kept_for_two_times_has_a_tier_without_a_price() -> None:
    both = {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 1}
    usage = {**MESSAGES, "cache_creation": both}
    assert service_tier_of("anthropic", usage) == "standard+cache_mixed"
    unheard = {**MESSAGES, "cache_creation": {"ephemeral_24h_input_tokens": 1}}
    assert service_tier_of("anthropic", unheard) == "standard+cache_mixed"


def test_a_tier_that_an_sdk_has_as_an_enumeration_is_read() -> None:
    class Traffic(StrEnum):
        ON_DEMAND_PRIORITY = "ON_DEMAND_PRIORITY"

    usage = {"traffic_type": Traffic.ON_DEMAND_PRIORITY}
    assert service_tier_of("google", usage) == "priority"


def test_images_that_are_made_are_a_tier_of_their_own() -> None:
    made = {"candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}]}
    assert service_tier_of("google", made) == "standard+image"
    sent = {"promptTokensDetails": [{"modality": "IMAGE", "tokenCount": 258}]}
    assert service_tier_of("google", sent) == "standard"
    drawn = {"input_tokens": 1, "output_tokens_details": {"image_tokens": 1056}}
    assert service_tier_of("openai", drawn) == "standard+image"


def test_iterations_that_are_no_list_are_refused() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "iterations": 5}
    with pytest.raises(InvalidRecord, match="iterations 5: not a list"):
        tokens_of("anthropic", usage)


def test_details_that_are_no_list_say_nothing_of_audio() -> None:
    assert service_tier_of("google", {"promptTokensDetails": None}) == "standard"


# --- with prices ---


@pytest.fixture(scope="module")
def price_list() -> PriceList:
    return PriceList(from_genai_prices(text_only={"gemini-2.5-flash"}).prices)


@pytest.mark.parametrize(
    "provider_api, model, usage, flavor",
    [
        ("openai", "gpt-5", CHAT, "chat"),
        ("openai", "gpt-4o-mini-2024-07-18", CHAT, "chat"),
        ("openai", "gpt-5.6-sol", RESPONSES, "responses"),
        ("openai", "gpt-5.4", {**RESPONSES, "input_tokens": 302_000}, "responses"),
        ("anthropic", "claude-sonnet-4-5", MESSAGES, "default"),
        ("anthropic", "claude-sonnet-4-5", MESSAGES_1H, "default"),
        ("anthropic", "claude-sonnet-4-5", {**MESSAGES, "input_tokens": 90_000}, "default"),
        ("anthropic", "claude-haiku-5-5", MESSAGES_1H, "default"),
        ("anthropic", "claude-opus-5", {**MESSAGES_1H, "speed": "fast"}, "default"),
        ("google", "gemini-2.5-pro", GEMINI, "default"),
        ("google", "gemini-2.5-pro", {**GEMINI, "promptTokenCount": 241_000}, "default"),
        ("google", "gemini-2.5-flash", GEMINI, "default"),
    ],
)
def test_a_payload_costs_what_genai_prices_makes_of_it(
    price_list: PriceList,
    provider_api: ProviderApi,
    model: str,
    usage: dict[str, Any],
    flavor: str,
) -> None:
    usage = without(usage, "total_tokens", "totalTokenCount")
    names = ("usageMetadata", "modelVersion") if provider_api == "google" else ("usage", "model")
    payload = dict(zip(names, (usage, model), strict=True))
    extracted = extract_usage(payload, provider_id=provider_api, api_flavor=flavor).usage
    expected = calc_price(
        extracted,
        model,
        provider_id=provider_api,
        genai_request_timestamp=NOVEMBER,
        price_context={"speed": "fast"} if usage.get("speed") else None,
    )
    found = price_list.price(
        tokens_of(provider_api, usage),
        provider=provider_api,
        model=model,
        service_tier=service_tier_of(provider_api, usage),
        at=NOVEMBER,
    )
    assert isinstance(found, Priced), found
    assert found.cost_usd == expected.total_price.quantize(Decimal("1E-12"))


@pytest.mark.parametrize(
    "provider_api, model, usage, by_hand",
    [
        # 86 at 1.25, 1,920 at 0.125, 300 at 10 US dollars a million.
        ("openai", "gpt-5", CHAT, "0.0033475"),
        # 21 at 3, 188,086 at 0.30, 1,886 at 3.75, 393 at 15.
        ("anthropic", "claude-sonnet-4-5", MESSAGES, "0.0694563"),
        # The same, but 1,886 at 6: twice the input.
        ("anthropic", "claude-sonnet-4-5", MESSAGES_1H, "0.0736998"),
        # Beyond 200,000: 14,000 at 2.50, 240,000 at 0.25, 2,000 at 15.
        ("google", "gemini-2.5-pro", GEMINI, "0.125"),
    ],
)
def test_a_payload_costs_what_the_published_prices_make_of_it_by_hand(
    price_list: PriceList,
    provider_api: ProviderApi,
    model: str,
    usage: dict[str, Any],
    by_hand: str,
) -> None:
    found = price_list.price(
        tokens_of(provider_api, usage),
        provider=provider_api,
        model=model,
        service_tier=service_tier_of(provider_api, usage),
        at=NOVEMBER,
    )
    assert isinstance(found, Priced), found
    assert found.cost_usd == Decimal(by_hand)


@pytest.mark.parametrize(
    "what",
    [
        {"inference_geo": "us"},
        {"service_tier": "priority"},
        {"cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 1}},
    ],
)
def test_what_makes_tokens_dearer_than_counts_can_say_is_unpriced_and_not_cheaper(
    price_list: PriceList, what: dict[str, Any]
) -> None:
    usage = {**MESSAGES, **what}
    found = price_list.price(
        tokens_of("anthropic", usage),
        provider="anthropic",
        model="claude-sonnet-4-5",
        service_tier=service_tier_of("anthropic", usage),
        at=NOVEMBER,
    )
    assert isinstance(found, Unpriced)
    assert found.reason == "unknown_service_tier"
