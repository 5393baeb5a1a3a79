from __future__ import annotations

import io
import json
import sys
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import DataSnapshot, get_snapshot, set_custom_snapshot
from genai_prices.types import (
    ClauseEquals,
    ClauseOr,
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    PriceVariant,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.types import ModelPrice as Prices

from ledger.errors import InvalidArgument, InvalidRecord
from ledger.pricing.catalogue import from_csv, from_json
from ledger.pricing.genai import CatalogueUnavailable, GenaiCatalogue, from_genai_prices
from ledger.pricing.price import PriceList
from ledger.records.prices import ModelPrice, Priced, Unpriced
from ledger.records.tokens import TokenCounts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def catalogue() -> GenaiCatalogue:
    return from_genai_prices(names=[("anthropic", "claude-sonnet-4-5-20250929")])


@pytest.fixture(scope="module")
def price_list(catalogue: GenaiCatalogue) -> PriceList:
    return PriceList(catalogue.prices)


@pytest.fixture
def models() -> Iterator[list[ModelInfo]]:
    """The models of a catalogue with one provider, to be filled."""
    made: list[ModelInfo] = []
    provider = Provider(id="acme", name="Acme", api_pattern="acme", models=made)
    set_custom_snapshot(DataSnapshot(providers=[provider], from_auto_update=False))
    yield made
    set_custom_snapshot(None)


def model(**what_matters: Any) -> ModelInfo:
    """A model `wise` of 2 US dollars for input and 8 for output."""
    values = {"id": "wise", "match": ClauseEquals("wise"), "prices": rates(), **what_matters}
    return ModelInfo(**values)


def rates(**what_matters: Any) -> Prices:
    priced = {"input_mtok": Decimal(2), "output_mtok": Decimal(8), **what_matters}
    return Prices(**priced)


def said(
    prices: tuple[ModelPrice, ...],
) -> list[tuple[str, int, datetime, tuple[Decimal | None, ...]]]:
    return [
        (each.service_tier, each.context_tokens_from, each.effective_from, each.rates)
        for each in prices
    ]


# --- genai-prices ---


def genai_usage(price: ModelPrice, tokens: TokenCounts) -> Usage:
    """The same tokens as genai-prices counts them."""
    hourly = tokens.cache_write_tokens if price.service_tier.endswith("+cache_1h") else 0
    return Usage(
        input_tokens=tokens.input_tokens,
        output_tokens=tokens.output_tokens,
        cache_read_tokens=tokens.cache_read_tokens,
        cache_write_tokens=tokens.cache_write_tokens,
        cache_write_1h_tokens=hourly,
        cache_write_5m_tokens=tokens.cache_write_tokens - hourly,
        output_reasoning_tokens=tokens.reasoning_tokens,
    )


def test_each_price_costs_what_genai_prices_says_it_does(
    catalogue: GenaiCatalogue, price_list: PriceList
) -> None:
    words = {"batch": "processing"}
    checked = Counter[str]()
    for price in catalogue.prices:
        if price.is_withdrawn:
            continue
        size = max(price.context_tokens_from, 1000)
        has_input, has_output = (rate is not None for rate in (price.rates[0], price.rates[3]))
        tokens = TokenCounts(
            input_tokens=size if has_input else 0,
            cache_read_tokens=400 if has_input else 0,
            cache_write_tokens=300 if has_input else 0,
            output_tokens=77 if has_output else 0,
            reasoning_tokens=7 if has_output else 0,
        )
        found = price_list.price(
            tokens,
            provider=price.provider,
            model=price.model,
            service_tier=price.service_tier,
            at=price.effective_from,
        )
        assert isinstance(found, Priced), (price, found)
        tier = price.service_tier.removesuffix("+cache_1h")
        is_speed = tier == "fast" and price.provider == "anthropic"
        word = "speed" if is_speed else words.get(tier, "service_tier")
        expected = calc_price(
            genai_usage(price, tokens),
            price.model,
            provider_id=price.provider,
            genai_request_timestamp=price.effective_from,
            price_context=None if tier == "standard" else {word: tier},
        )
        assert found.cost_usd == expected.total_price.quantize(Decimal("1E-12")), price
        checked[price.service_tier] += 1
    assert checked.keys() >= {"standard", "standard+cache_1h", "batch", "flex", "fast", "priority"}
    assert checked.total() > 4000


@pytest.mark.parametrize(
    "provider, model_name, counts, cost",
    [
        # 2.50 a million, cached 1.25, output 10.
        ("openai", "gpt-4o-2024-08-06", (1_000_000, 400_000, 0, 100_000), "3.00"),
        # 3, cached 0.30, written 3.75, output 15; beyond 200,000 input tokens 6, 0.60, 7.50, 22.50.
        ("anthropic", "claude-sonnet-4-5", (200_000, 100_000, 40_000, 10_000), "0.51"),
        ("anthropic", "claude-sonnet-4-5-20250929", (200_000, 100_000, 40_000, 10_000), "0.51"),
        ("anthropic", "claude-sonnet-4-5", (200_001, 100_000, 40_000, 10_000), "0.945006"),
        # 1.25, cached 0.125, output 10; beyond 200,000 input tokens 2.50, 0.25, 15.
        ("google", "gemini-2.5-pro", (200_000, 100_000, 0, 10_000), "0.2375"),
        ("google", "gemini-2.5-pro", (200_001, 100_000, 0, 10_000), "0.4250025"),
    ],
)
def test_published_prices_are_those_worked_out_by_hand(
    price_list: PriceList,
    provider: str,
    model_name: str,
    counts: tuple[int, int, int, int],
    cost: str,
) -> None:
    sent, read, written, output = counts
    tokens = TokenCounts(
        input_tokens=sent,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=output,
    )
    found = price_list.price(
        tokens, provider=provider, model=model_name, service_tier="standard", at=NOVEMBER
    )
    assert isinstance(found, Priced), found
    assert found.cost_usd == Decimal(cost)


def test_a_change_of_price_holds_from_its_day_in_utc(price_list: PriceList) -> None:
    # OpenAI cut o3 from 10 to 2 US dollars on 2025-06-10.
    day = datetime(2025, 6, 10, tzinfo=UTC)
    million = TokenCounts(input_tokens=1_000_000)
    asked: dict[str, Any] = {"provider": "openai", "model": "o3", "service_tier": "standard"}
    before = price_list.price(million, at=day - timedelta(microseconds=1), **asked)
    after = price_list.price(million, at=day, **asked)
    assert isinstance(before, Priced)
    assert isinstance(after, Priced)
    assert before.cost_usd == 10
    assert after.cost_usd == 2


def test_every_model_has_a_price_or_a_reason_why_not(catalogue: GenaiCatalogue) -> None:
    for provider in get_snapshot().providers:
        names = {each.model for each in catalogue.prices if each.provider == provider.id}
        priced = {found.id for name in names if (found := provider.find_model(name)) is not None}
        told = {
            each.model
            for each in catalogue.left_out
            if each.provider == provider.id and each.part is None
        }
        assert not priced & told
        assert priced | told == {each.id for each in provider.models}


def test_no_two_prices_are_of_one_moment(catalogue: GenaiCatalogue) -> None:
    assert max(Counter(each.key for each in catalogue.prices).values()) == 1


def test_a_price_names_the_catalogue_and_its_version(models: list[ModelInfo]) -> None:
    models.append(model())
    assert from_genai_prices().prices[0].source.startswith("genai-prices 0.")
    snapshot = DataSnapshot(
        providers=get_snapshot().providers, from_auto_update=True, timestamp=NOVEMBER
    )
    set_custom_snapshot(snapshot)
    assert from_genai_prices().prices[0].source.endswith(" updated 2026-11-01")


def test_a_price_without_a_date_holds_from_1970(models: list[ModelInfo]) -> None:
    models.append(model())
    assert said(from_genai_prices().prices) == [
        ("standard", 0, EPOCH, (Decimal(2), None, None, Decimal(8), None))
    ]


def test_a_model_has_its_price_under_each_listed_name(models: list[ModelInfo]) -> None:
    match = ClauseOr([ClauseEquals("wise-2"), ClauseEquals("wise"), ClauseStartsWith("wise-3-")])
    models.append(model(match=match))
    prices = from_genai_prices().prices
    assert [each.model for each in prices] == ["wise", "wise-2"]


def test_a_name_that_was_met_gets_the_price_of_its_pattern(models: list[ModelInfo]) -> None:
    models.append(model(match=ClauseStartsWith("wise-")))
    unnamed = from_genai_prices()
    assert unnamed.prices == ()
    assert [each.reason for each in unnamed.left_out] == [
        "is known by a pattern alone; pass the names that were met"
    ]
    met = [("acme", "wise-2026-01-01"), ("acme", "foolish"), ("nobody", "wise-1")]
    assert [each.model for each in from_genai_prices(names=met).prices] == ["wise-2026-01-01"]


def test_a_name_is_the_first_models_whose_pattern_it_matches(models: list[ModelInfo]) -> None:
    models.append(model(id="first", match=ClauseStartsWith("wise")))
    models.append(model(id="wise", match=ClauseEquals("wise"), prices=rates(input_mtok=None)))
    found = from_genai_prices()
    assert [each.rates[0] for each in found.prices] == [2]
    assert [each.model for each in found.left_out] == ["wise"]


def test_a_model_of_another_provider_is_not_fallen_back_to(models: list[ModelInfo]) -> None:
    models.append(model())
    reseller = Provider(
        id="reseller", name="R", api_pattern="r", fallback_model_providers=["acme"], models=[]
    )
    providers = [*get_snapshot().providers, reseller]
    set_custom_snapshot(DataSnapshot(providers=providers, from_auto_update=False))
    assert (
        calc_price(Usage(input_tokens=1_000_000), "wise", provider_id="reseller").total_price == 2
    )
    found = from_genai_prices(names=[("reseller", "wise")])
    assert [each.provider for each in found.prices] == ["acme"]


def test_a_tier_that_begins_above_its_start_is_a_context_from_the_next_token(
    models: list[ModelInfo],
) -> None:
    tiered = TieredPrices(base=Decimal(2), tiers=[Tier(start=200, price=Decimal(4))])
    other = TieredPrices(base=Decimal(8), tiers=[Tier(start=201, price=Decimal(9))])
    models.append(model(prices=rates(input_mtok=tiered, output_mtok=other)))
    assert said(from_genai_prices().prices) == [
        ("standard", 0, EPOCH, (Decimal(2), None, None, Decimal(8), None)),
        ("standard", 201, EPOCH, (Decimal(4), None, None, Decimal(8), None)),
        ("standard", 202, EPOCH, (Decimal(4), None, None, Decimal(9), None)),
    ]


def test_a_context_that_ends_is_withdrawn(models: list[ModelInfo]) -> None:
    tiered = TieredPrices(base=Decimal(2), tiers=[Tier(start=200, price=Decimal(4))])
    day = StartDateConstraint(date(2026, 3, 13))
    dated = [
        ConditionalPrice(prices=rates(input_mtok=tiered)),
        ConditionalPrice(day, prices=rates()),
    ]
    models.append(model(prices=dated))
    prices = from_genai_prices().prices
    assert [(each.context_tokens_from, each.is_withdrawn) for each in prices] == [
        (0, False),
        (201, False),
        (201, True),
    ]
    asked: dict[str, Any] = {"provider": "acme", "model": "wise", "service_tier": "standard"}
    found = PriceList(prices).price(TokenCounts(input_tokens=1_000_000), at=NOVEMBER, **asked)
    assert isinstance(found, Priced)
    assert found.cost_usd == 2


def test_a_price_that_did_not_change_is_not_said_again(models: list[ModelInfo]) -> None:
    searches = rates(web_searches_kcount=Decimal(10))
    day = StartDateConstraint(date(2026, 1, 1))
    models.append(
        model(prices=[ConditionalPrice(prices=rates()), ConditionalPrice(day, prices=searches)])
    )
    assert len(from_genai_prices().prices) == 1


def test_a_first_price_with_a_date_is_not_said_of_earlier_calls(models: list[ModelInfo]) -> None:
    day = StartDateConstraint(date(2026, 1, 1))
    always = PriceVariant({"service_tier": "flex"}, Prices(input_mtok=Decimal(1)))
    dated = [ConditionalPrice(day, prices=rates())]
    models.append(model(prices=dated, price_variants=[always]))
    january = datetime(2026, 1, 1, tzinfo=UTC)
    assert [(each.service_tier, each.effective_from) for each in from_genai_prices().prices] == [
        ("standard", january),
        ("flex", january),
    ]


def test_a_service_tier_is_the_standard_price_with_what_it_changes(models: list[ModelInfo]) -> None:
    variants = [
        PriceVariant({"service_tier": "flex"}, Prices(input_mtok=Decimal(1))),
        PriceVariant(
            {"processing": "batch"},
            Prices(output_mtok=Decimal(4)),
            StartDateConstraint(date(2026, 10, 14)),
        ),
        PriceVariant({"speed": "fast"}, Prices(input_mtok=Decimal(20))),
    ]
    cut = ConditionalPrice(
        StartDateConstraint(date(2026, 11, 1)), prices=rates(input_mtok=Decimal("1.5"))
    )
    models.append(model(prices=[ConditionalPrice(prices=rates()), cut], price_variants=variants))
    october = datetime(2026, 10, 14, tzinfo=UTC)
    assert said(from_genai_prices().prices) == [
        ("standard", 0, EPOCH, (Decimal(2), None, None, Decimal(8), None)),
        ("standard", 0, NOVEMBER, (Decimal("1.5"), None, None, Decimal(8), None)),
        ("flex", 0, EPOCH, (Decimal(1), None, None, Decimal(8), None)),
        ("batch", 0, october, (Decimal(2), None, None, Decimal(4), None)),
        ("batch", 0, NOVEMBER, (Decimal("1.5"), None, None, Decimal(4), None)),
        ("fast", 0, EPOCH, (Decimal(20), None, None, Decimal(8), None)),
    ]


def test_a_service_tier_has_no_price_before_its_day(price_list: PriceList) -> None:
    asked: dict[str, Any] = {"provider": "openai", "model": "o3", "service_tier": "flex"}
    tokens = TokenCounts(input_tokens=1)
    early = price_list.price(tokens, at=datetime(2026, 10, 11, tzinfo=UTC), **asked)
    assert isinstance(early, Unpriced)
    assert early.reason == "not_yet_effective"
    assert isinstance(
        price_list.price(tokens, at=datetime(2026, 10, 12, tzinfo=UTC), **asked), Priced
    )


def test_a_cache_kept_for_an_hour_is_a_service_tier(models: list[ModelInfo]) -> None:
    writes = {"cache_write_mtok": Decimal("2.5"), "cache_write_1h_mtok": Decimal(4)}
    models.append(model(prices=rates(**writes)))
    assert said(from_genai_prices().prices) == [
        ("standard", 0, EPOCH, (Decimal(2), None, Decimal("2.5"), Decimal(8), None)),
        ("standard+cache_1h", 0, EPOCH, (Decimal(2), None, Decimal(4), Decimal(8), None)),
    ]


@pytest.mark.parametrize(
    "key, reason",
    [
        ("requests_kcount", "counts other things than tokens of text: requests_kcount"),
        ("input_audio_mtok", "counts other things than tokens of text: input_audio_mtok"),
        ("output_image_mtok", "counts other things than tokens of text: output_image_mtok"),
        ("audio_hours", "counts other things than tokens of text: audio_hours"),
        ("unheard_of_mtok", "counts other things than tokens of text: unheard_of_mtok"),
    ],
)
def test_a_model_that_counts_other_things_than_tokens_is_left_out_and_told(
    models: list[ModelInfo], key: str, reason: str
) -> None:
    models.append(model(prices=rates(**{key: Decimal(1)})))
    found = from_genai_prices()
    assert found.prices == ()
    assert [each.to_dict() for each in found.left_out] == [
        {"provider": "acme", "model": "wise", "part": None, "reason": reason}
    ]


def test_a_model_that_is_sent_text_alone_has_the_rates_of_text(models: list[ModelInfo]) -> None:
    models.append(model(prices=rates(input_audio_mtok=Decimal(9))))
    found = from_genai_prices(text_only={"wise"})
    assert found.left_out == ()
    assert [each.rates[0] for each in found.prices] == [2]
    models[0] = model(prices=rates(requests_kcount=Decimal(9)))
    assert from_genai_prices(text_only={"wise"}).prices == ()


def test_searches_are_told_and_the_models_tokens_priced(models: list[ModelInfo]) -> None:
    models.append(model(prices=rates(web_searches_kcount=Decimal(10))))
    found = from_genai_prices()
    assert len(found.prices) == 1
    assert [(each.part, each.reason) for each in found.left_out] == [
        ("web_searches_kcount", "is charged beside tokens")
    ]


def test_a_price_that_depends_on_the_time_of_day_is_left_out_and_told(
    models: list[ModelInfo],
) -> None:
    night = TimeOfDateConstraint(time(0, tzinfo=UTC), time(8, tzinfo=UTC))
    dated = [ConditionalPrice(prices=rates()), ConditionalPrice(night, prices=rates())]
    models.append(model(prices=dated))
    models.append(
        model(
            id="wiser",
            match=ClauseEquals("wiser"),
            price_variants=[PriceVariant({"service_tier": "flex"}, rates(), night)],
        )
    )
    found = from_genai_prices()
    assert [(each.model, each.service_tier) for each in found.prices] == [("wiser", "standard")]
    assert [(each.model, each.part, each.reason) for each in found.left_out] == [
        ("wise", None, "depends on the time of day"),
        ("wiser", "flex", "depends on the time of day"),
    ]


def test_a_service_tier_that_cannot_be_named_is_left_out_and_told(models: list[ModelInfo]) -> None:
    variants = [
        PriceVariant({"processing": "batch", "speed": "fast"}, rates()),
        PriceVariant({"route": "eu"}, rates()),
        PriceVariant({"speed": "fast"}, rates(input_mtok=Decimal(9))),
        PriceVariant({"service_tier": "fast"}, rates(input_mtok=Decimal(7))),
        PriceVariant({"service_tier": "standard"}, rates(input_mtok=Decimal(7))),
    ]
    models.append(model(price_variants=variants))
    found = from_genai_prices()
    assert [(each.service_tier, each.rates[0]) for each in found.prices] == [
        ("standard", Decimal(2)),
        ("fast", Decimal(9)),
    ]
    assert [(each.part, each.reason) for each in found.left_out] == [
        ("batch+fast", "is chosen by processing, speed"),
        ("eu", "is chosen by route"),
        ("fast", "is the name of two tiers"),
        ("standard", "is the name of two tiers"),
    ]


def test_a_model_without_rates_is_left_out_and_never_free(models: list[ModelInfo]) -> None:
    models.append(model(prices=Prices()))
    models.append(model(id="b", match=ClauseEquals("b"), prices=[]))
    found = from_genai_prices()
    assert found.prices == ()
    assert {each.reason for each in found.left_out} == {"has no rate for input or output tokens"}


def test_a_model_whose_rates_end_is_withdrawn(models: list[ModelInfo]) -> None:
    end = ConditionalPrice(StartDateConstraint(date(2026, 11, 1)), prices=Prices())
    models.append(model(prices=[ConditionalPrice(prices=rates()), end]))
    prices = from_genai_prices().prices
    assert [(each.effective_from, each.is_withdrawn) for each in prices] == [
        (EPOCH, False),
        (NOVEMBER, True),
    ]


def test_a_rate_of_more_decimals_than_are_kept_is_left_out_and_not_rounded(
    models: list[ModelInfo],
) -> None:
    third = rates(web_searches_kcount=Decimal(1), input_mtok=Decimal("0.3333333333333333"))
    models.append(model(prices=third))
    found = from_genai_prices()
    assert found.prices == ()
    assert [each.part for each in found.left_out] == [None]
    assert "12 after the decimal point" in found.left_out[0].reason


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(CatalogueUnavailable, match=r"pip install 'llm-ledger\[prices\]'"):
        from_genai_prices()


# --- files ---

ROW = {
    "provider": "openai",
    "model": "gpt-4o",
    "service_tier": "flex",
    "context_tokens_from": 200_001,
    "effective_from": "2026-03-01T00:00:00Z",
    "is_withdrawn": False,
    "input_usd_per_million": "2.5",
    "output_usd_per_million": "10",
    "cache_read_usd_per_million": "1.25",
    "cache_write_usd_per_million": "3.125",
    "reasoning_usd_per_million": "11",
    "source": "a contract",
}
LEAST = {
    "provider": "openai",
    "model": "gpt-4o",
    "effective_from": "2026-03-01T01:00:00+01:00",
    "input_usd_per_million": "0.1",
    "source": "a contract",
}


def as_csv(*rows: dict[str, Any]) -> io.StringIO:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    return io.StringIO("".join(",".join(line) + "\r\n" for line in lines))


def as_json(*rows: dict[str, Any]) -> io.StringIO:
    return io.StringIO("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


READERS = pytest.mark.parametrize(
    "read, write", [(from_csv, as_csv), (from_json, as_json)], ids=["csv", "json"]
)


def refused(read: Any, file: Any) -> str:
    with pytest.raises(InvalidRecord) as error:
        read(file)
    return str(error.value)


@READERS
def test_a_file_holds_one_price_a_row_in_the_fields_of_a_price(read: Any, write: Any) -> None:
    whole, least = read(write(ROW, LEAST))
    assert whole.to_dict() == {**ROW, "id": None}
    assert least == ModelPrice(
        provider="openai",
        model="gpt-4o",
        effective_from=datetime(2026, 3, 1, tzinfo=UTC),
        input_usd_per_million=Decimal("0.1"),
        source="a contract",
    )


@READERS
def test_a_file_can_withdraw_a_price(read: Any, write: Any) -> None:
    end: dict[str, Any] = {**LEAST, "is_withdrawn": "true", "input_usd_per_million": ""}
    if read is from_json:
        end |= {"is_withdrawn": True, "input_usd_per_million": None}
    (price,) = read(write(end))
    assert price.is_withdrawn


@READERS
@pytest.mark.parametrize(
    "broken, told",
    [
        ({"input_usd_per_million": "-1"}, "input_usd_per_million Decimal('-1'): not an amount"),
        ({"input_usd_per_million": "NaN"}, "input_usd_per_million 'NaN': input should be a finite"),
        ({"input_usd_per_million": "inf"}, "input_usd_per_million 'inf': input should be a finite"),
        ({"input_usd_per_million": "2;5"}, "input_usd_per_million '2;5': input should be a valid"),
        ({"input_usd_per_million": "1E-13"}, "input_usd_per_million Decimal('1E-13'): not an am"),
        ({"effective_from": "2026-03-01T00:00"}, "effective_from datetime.datetime(2026, 3, 1,"),
        *(
            ({"effective_from": wrong}, f"effective_from '{wrong}': is no time with a zone, such")
            for wrong in ("2026-03-01", "soon", "20260301", "46082", "2026")
        ),
        ({"input_usd_per_million": "1_0"}, "input_usd_per_million '1_0': is no number"),
        ({"context_tokens_from": "-1"}, "context_tokens_from -1: not a whole number"),
        ({"context_tokens_from": "1.5"}, "context_tokens_from '1.5': input should be a valid int"),
        ({"is_withdrawn": "perhaps"}, "is_withdrawn 'perhaps': input should be a valid boolean"),
        ({"is_withdrawn": "true"}, "input_usd_per_million Decimal('0.1'): has a rate, but a with"),
        ({"currency": "EUR"}, "currency 'EUR': is no field of a price; those are provider, mod"),
        ({"id": "1"}, "id '1': is no field of a price"),
        ({"model": "x" * 256}, f"model '{'x' * 46}"),
    ],
)
def test_a_broken_row_is_refused_by_line_field_value_and_rule(
    read: Any, write: Any, broken: dict[str, Any], told: str
) -> None:
    wrong = {**LEAST, "effective_from": "2026-04-01T00:00:00Z", **broken}
    first = {**dict.fromkeys(broken, ""), **LEAST} if read is from_csv else LEAST
    if "currency" in broken or "id" in broken:
        said = refused(read, write(wrong))
        assert said.startswith(f"line 2: {told}")
    else:
        said = refused(read, write(first, wrong))
        assert said.startswith(f"line 3: {told}"), said


@READERS
@pytest.mark.parametrize("field", ["provider", "model", "effective_from", "source"])
def test_a_missing_field_is_named(read: Any, write: Any, field: str) -> None:
    row = {name: value for name, value in LEAST.items() if name != field}
    assert refused(read, write(row)) == f"line 2: {field} is missing, and every price has one"


@READERS
def test_a_row_without_a_rate_is_refused(read: Any, write: Any) -> None:
    row = {name: value for name, value in LEAST.items() if not name.startswith("input")}
    assert refused(read, write(row)).startswith("line 2: model 'gpt-4o': needs input_usd_per_mil")


@READERS
def test_two_prices_of_one_moment_are_refused(read: Any, write: Any) -> None:
    later = {**LEAST, "effective_from": "2026-05-01T00:00:00Z"}
    dearer = {**LEAST, "effective_from": "2026-03-01T00:00:00Z", "input_usd_per_million": "9"}
    assert refused(read, write(LEAST, later, dearer)) == (
        "line 4: model 'gpt-4o': has a price for the same moment in line 2; leave one out"
    )


@READERS
def test_a_path_is_read_whatever_wrote_it(read: Any, write: Any, tmp_path: Path) -> None:
    path = tmp_path / "prices"
    path.write_text("\ufeff" + write({**LEAST, "source": "Übersicht"}).getvalue(), "utf-8")
    assert [each.source for each in read(path)] == ["Übersicht"]
    assert read(str(path)) == read(path)


@READERS
def test_a_file_that_cannot_be_read_is_named(read: Any, write: Any, tmp_path: Path) -> None:
    assert write(LEAST)
    with pytest.raises(InvalidArgument, match="nowhere cannot be read: No such file or directory"):
        read(tmp_path / "nowhere")


@READERS
def test_bytes_that_are_no_utf_8_are_refused(read: Any, write: Any, tmp_path: Path) -> None:
    path = tmp_path / "prices"
    path.write_bytes(write(LEAST).getvalue().encode().replace(b"contract", b"contr\xe4ct"))
    assert "is not UTF-8" in refused(read, path)


@READERS
def test_a_file_without_rows_has_no_prices(read: Any, write: Any) -> None:
    empty = write(LEAST).getvalue().splitlines()[0] if read is from_csv else " [ ] "
    assert read(io.StringIO(empty)) == []


@pytest.mark.parametrize(
    "text, told",
    [
        ("", "line 1 is missing; it has the names provider, model, "),
        ("model,source,model\r\n", "line 1: has model twice; leave one out"),
        ("model,source\r\ngpt-4o\r\n", "line 2: has 1 cells under 2 names"),
        ("model,source\r\na,b\r\na,b,c\r\n", "line 2: provider is missing"),
        ('model,source\r\n"a"b,c\r\n', "line 2: is not CSV: "),
    ],
)
def test_csv_of_another_shape_is_refused_by_line(text: str, told: str) -> None:
    assert refused(from_csv, io.StringIO(text)).startswith(told)


def test_csv_may_quote_break_and_leave_lines_empty() -> None:
    text = as_csv({**LEAST, "source": '"a page, \r\nof two lines"'}).getvalue()
    (price,) = from_csv(io.StringIO(text.replace("\r\n", "\r\n\r\n", 1)))
    assert price.source == "a page, \r\nof two lines"


@pytest.mark.parametrize(
    "text, told",
    [
        ("", "line 1: is not JSON: Expecting value"),
        ("[{},\n]", "line 2: is not JSON: "),
        ("[\n1]", "line 2: 1 is no object"),
        ('{"prices": []}', "line 1: {'prices': []} is no array of prices"),
        ('[\n\n{"model": "a",\n"model": "b"}]', "line 3: has model twice; leave one out"),
        ("[" * 100_000, "is JSON that cannot be read: "),
        ('[{"model": ' + "1" * 5000 + "}]", "is JSON that cannot be read: "),
        ('[{"model": ["a"]}]', "line 1: provider is missing"),
    ],
)
def test_json_of_another_shape_is_refused_by_line(text: str, told: str) -> None:
    assert refused(from_json, io.StringIO(text)).startswith(told)


def test_two_prices_of_one_moment_are_refused_on_one_line_of_json_too() -> None:
    price = {**LEAST, "effective_from": "2026-04-01T00:00:00Z"}
    with pytest.raises(InvalidRecord, match="has a price for the same moment in line 1"):
        from_json(io.StringIO(json.dumps([price, price])))


def test_numbers_in_json_are_taken_as_they_are_written() -> None:
    text = json.dumps([LEAST]).replace('"0.1"', "0.100000000001")
    (price,) = from_json(io.StringIO(text))
    assert price.input_usd_per_million == Decimal("0.100000000001")
    text = json.dumps([LEAST]).replace('"0.1"', "123456789012.123456789012")
    (price,) = from_json(io.StringIO(text))
    assert price.input_usd_per_million == Decimal("123456789012.123456789012")


def test_no_number_in_json_is_refused() -> None:
    text = json.dumps([LEAST]).replace('"0.1"', "NaN")
    assert refused(from_json, io.StringIO(text)).startswith("line 1: input_usd_per_million nan: ")
