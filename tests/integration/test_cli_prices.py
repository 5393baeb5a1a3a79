"""`ledger prices` on every database: what it adds, what it never changes, and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from genai_prices.data_snapshot import DataSnapshot, set_custom_snapshot
from genai_prices.types import (
    ClauseEquals,
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
)
from genai_prices.types import ModelPrice as Prices

from ledger.cli import price_import
from ledger.pricing.genai import from_genai_prices
from ledger.records.prices import ModelPrice, Priced
from tests.commands import Ran, run, succeed
from tests.databases import Databases, Target
from tests.ledgers import NOW, PRICE, Books, books_at
from tests.writers import sql

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OWN = replace(PRICE, provider="acme", model="wise", effective_from=EPOCH, source="a contract")

Catalogue = Callable[..., None]


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    with books_at(database_url) as books:
        yield books


@pytest.fixture
def at(books: Books) -> tuple[str, str]:
    """The options that name the test's database."""
    return "--database-url", books.url


@pytest.fixture
def catalogue() -> Iterator[Catalogue]:
    """What makes genai-prices say these models of the provider acme, and nothing else."""

    def says(*models: ModelInfo) -> None:
        provider = Provider(id="acme", name="Acme", api_pattern="acme", models=list(models))
        set_custom_snapshot(DataSnapshot(providers=[provider], from_auto_update=False))

    yield says
    set_custom_snapshot(None)


def model(*, prices: Any = None, **what_matters: Any) -> ModelInfo:
    """A model `wise` of 2 US dollars for input and 8 for output."""
    values = {"id": "wise", "match": ClauseEquals("wise"), **what_matters}
    return ModelInfo(prices=rates() if prices is None else prices, **values)


def rates(**what_matters: Any) -> Prices:
    return Prices(**{"input_mtok": Decimal(2), "output_mtok": Decimal(8), **what_matters})


def dated(*priced: tuple[date, Prices]) -> list[ConditionalPrice]:
    """Rates that change from some days on; the first hold from 1970 on."""
    first, *others = priced
    return [
        ConditionalPrice(prices=first[1]),
        *(
            ConditionalPrice(constraint=StartDateConstraint(day), prices=prices)
            for day, prices in others
        ),
    ]


def stored(books: Books, model: str = "wise") -> list[ModelPrice]:
    return books.ledger.billing.model_prices(model)


def imported(at: tuple[str, str], *options: object) -> Any:
    """The report of an import, whose exit code is 1 exactly where it found a conflict."""
    ran = run("prices", "import", *options, "--json", *at)
    report = ran.json()
    assert ran.exit_code == bool(report["conflicting"]), ran.err
    assert ran.err == ""
    return report


def history(books: Books) -> list[tuple[Decimal | None, bool]]:
    """The input rates of `wise` as they followed one another, and whether each was dated."""
    return [
        (price.input_usd_per_million, price.effective_from > EPOCH)
        for price in stored(books)
        if not price.context_tokens_from
    ]


# --- import ---


def test_the_whole_catalogue_is_imported_and_what_is_left_out_is_told_with_reasons(
    books: Books, at: tuple[str, str]
) -> None:
    said = from_genai_prices()
    report = imported(at)

    own = (PRICE.provider, PRICE.model, PRICE.service_tier)
    added = [
        price
        for price in said.prices
        if (price.provider, price.model, price.service_tier) != own
        or price.effective_from < PRICE.effective_from
    ]
    assert report["inserted"] == len(added)
    assert report["overruled"] == len(said.prices) - len(added)
    assert report["left_out"] == [each.to_dict() for each in said.left_out]
    assert report["source"] == said.prices[0].source
    recorded = books.ledger.billing.model_prices()
    assert {replace(price, id=None) for price in recorded} == {*added, PRICE}
    # And the same again is all known, batch by batch.
    again = imported(at)
    assert (again["inserted"], again["known"]) == (0, len(added))


def test_an_import_makes_calls_of_its_models_priced(books: Books, at: tuple[str, str]) -> None:
    quote = {"provider": "mistral", "model": "mistral-large-latest", "input_tokens": 10}
    imported(at, "--provider", "mistral")
    assert isinstance(books.ledger.billing.price(quote), Priced)
    assert {price.provider for price in books.ledger.billing.model_prices()} == {
        "mistral",
        "openai",
    }


def test_more_prices_than_a_batch_are_all_added(
    books: Books, at: tuple[str, str], catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(price_import, "BATCH", 2)
    many = [f"m{number}" for number in range(5)]
    catalogue(*(model(id=name, match=ClauseEquals(name)) for name in many))
    assert imported(at)["inserted"] == 5
    assert names(books) == {*many}


def names(books: Books) -> set[str]:
    """The models of acme that have a price."""
    return {price.model for price in books.ledger.billing.model_prices(provider="acme")}


def test_a_name_known_by_a_pattern_is_found_where_a_call_waits_for_it(
    books: Books, at: tuple[str, str], catalogue: Catalogue
) -> None:
    books.ledger.tenancy.upsert_provider("acme")
    books.ledger.billing.record_usage(books.usage(provider="acme", model="wise-2026-01"))
    catalogue(model(match=ClauseStartsWith("wise")))
    imported(at)
    assert names(books) == {"wise", "wise-2026-01"}


def test_a_name_that_an_earlier_import_found_by_a_pattern_is_kept_up_to_date(
    books: Books, at: tuple[str, str], catalogue: Catalogue
) -> None:
    earlier = replace(OWN, model="wise-2026-01", source="genai-prices 0.0.1")
    books.ledger.tenancy.upsert_provider("acme")
    books.ledger.billing.add_prices([earlier])
    catalogue(model(match=ClauseStartsWith("wise")))
    assert len(imported(at, "--from-now")["from_now"]) == 1
    assert [price.input_usd_per_million for price in stored(books, "wise-2026-01")] == [
        OWN.input_usd_per_million,
        2,
    ]


def test_a_name_of_one_s_own_that_a_pattern_would_match_is_left_alone(
    books: Books, at: tuple[str, str], catalogue: Catalogue
) -> None:
    books.ledger.tenancy.upsert_provider("acme")
    books.ledger.billing.add_prices([replace(OWN, model="wise-mine", effective_from=NOW)])
    catalogue(model(match=ClauseStartsWith("wise")))
    imported(at)
    assert len(stored(books, "wise-mine")) == 1


def test_a_dry_run_says_what_an_import_would_add_and_changes_nothing(
    books: Books, at: tuple[str, str], catalogue: Catalogue
) -> None:
    catalogue(model())
    dry = imported(at, "--dry-run")
    assert stored(books) == []
    assert sql(books.url, "SELECT name FROM ledger.providers") == [("openai",)]
    assert {**dry, "is_dry_run": False} == imported(at)
    assert "Would add 0 prices" in succeed("prices", "import", "--dry-run", *at).out


def test_a_model_that_takes_more_than_text_is_taken_at_its_rates_of_text_where_one_says_so(
    books: Books, at: tuple[str, str], catalogue: Catalogue
) -> None:
    catalogue(model(prices=rates(input_audio_mtok=Decimal(40))))
    left_out = imported(at)["left_out"]
    assert [each["reason"] for each in left_out] == [
        "counts other things than tokens of text: input_audio_mtok"
    ]
    report = imported(at, "--text-only", "wise")
    assert (report["inserted"], report["left_out"]) == (1, [])
    assert history(books) == [(Decimal(2), False)]


# --- a catalogue that changes ---


def test_a_dated_change_of_the_catalogue_is_one_more_price(
    books: Books, at: tuple[str, str], catalogue: Catalogue
) -> None:
    catalogue(model())
    imported(at)
    dearer = (date(2026, 2, 1), rates(input_mtok=Decimal(3)))
    catalogue(model(prices=dated((date.min, rates()), dearer)))
    report = imported(at)
    assert (report["inserted"], report["known"]) == (1, 1)
    assert history(books) == [(Decimal(2), False), (Decimal(3), True)]


@pytest.fixture
def corrected(at: tuple[str, str], catalogue: Catalogue) -> None:
    """An import, after which the catalogue says another rate for the same moment."""
    catalogue(model())
    imported(at)
    catalogue(model(prices=rates(input_mtok=Decimal(3))))


@pytest.mark.usefixtures("corrected")
def test_a_rate_that_the_catalogue_corrects_is_a_conflict_and_history_stays(
    books: Books, at: tuple[str, str]
) -> None:
    [conflict] = imported(at)["conflicting"]
    assert conflict["recorded"]["input_usd_per_million"] == "2"
    assert conflict["said"]["input_usd_per_million"] == "3"
    assert history(books) == [(Decimal(2), False)]
    ran = run("prices", "import", *at)
    assert ran.exit_code == 1
    assert "acme wise, standard: input 2 -> 3 (recorded since 1970-01-01 00:00" in ran.out
    assert "--from-now" in ran.err


@pytest.mark.usefixtures("corrected")
def test_a_corrected_rate_holds_from_now_on_where_one_says_so_and_earlier_calls_keep_theirs(
    books: Books, at: tuple[str, str]
) -> None:
    quote = {"provider": "acme", "model": "wise", "input_tokens": 1_000_000}
    before = datetime.now(UTC)
    report = imported(at, "--from-now")

    assert (report["inserted"], len(report["from_now"])) == (1, 1)
    assert history(books) == [(Decimal(2), False), (Decimal(3), True)]
    assert before <= stored(books)[1].effective_from <= datetime.now(UTC)
    price = books.ledger.billing.price
    costs = [price(quote, at=when) for when in (before, datetime.now(UTC))]
    assert [found.cost_usd for found in costs if isinstance(found, Priced)] == [2, 3]


@pytest.mark.usefixtures("corrected")
def test_what_holds_from_now_on_is_known_to_later_imports(
    books: Books, at: tuple[str, str]
) -> None:
    imported(at, "--from-now")
    for options in ([], ["--from-now"]):
        report = imported(at, *options)
        assert (report["inserted"], report["known"]) == (0, 1)
    assert len(stored(books)) == 2


@pytest.mark.usefixtures("corrected")
def test_a_catalogue_that_changes_its_mind_again_is_followed_again(
    books: Books, at: tuple[str, str], catalogue: Catalogue
) -> None:
    imported(at, "--from-now")
    catalogue(model())
    [conflict] = imported(at)["conflicting"]
    assert conflict["said"]["input_usd_per_million"] == "2"
    imported(at, "--from-now")
    assert [rate for rate, _ in history(books)] == [2, 3, 2]


@pytest.mark.usefixtures("corrected")
def test_a_dry_run_from_now_changes_nothing(books: Books, at: tuple[str, str]) -> None:
    report = imported(at, "--from-now", "--dry-run")
    assert (report["inserted"], len(report["from_now"])) == (1, 1)
    assert len(stored(books)) == 1


def test_a_correction_of_the_past_alone_is_kept_and_nothing_is_made_of_it_from_now_on(
    books: Books, at: tuple[str, str], catalogue: Catalogue
) -> None:
    now = (date(2026, 2, 1), rates(input_mtok=Decimal(3)))
    catalogue(model(prices=dated((date.min, rates()), now)))
    imported(at)
    catalogue(model(prices=dated((date.min, rates(input_mtok=Decimal(1))), now)))

    assert len(imported(at)["conflicting"]) == 1
    report = imported(at, "--from-now")
    assert (report["inserted"], report["from_now"], len(report["kept"])) == (0, [], 1)
    assert [rate for rate, _ in history(books)] == [2, 3]


def test_a_correction_of_the_past_is_told_beside_one_of_the_present(
    books: Books, at: tuple[str, str], catalogue: Catalogue
) -> None:
    def said(then: int, now: int) -> ModelInfo:
        changed = (date(2026, 2, 1), rates(input_mtok=Decimal(now)))
        return model(prices=dated((date.min, rates(input_mtok=Decimal(then))), changed))

    catalogue(said(2, 3))
    imported(at)
    catalogue(said(1, 4))
    assert len(imported(at)["conflicting"]) == 2
    report = imported(at, "--from-now")
    assert [each["said"]["input_usd_per_million"] for each in report["from_now"]] == ["4"]
    assert [each["said"]["input_usd_per_million"] for each in report["kept"]] == ["1"]
    assert [rate for rate, _ in history(books)] == [2, 3, 4]


@pytest.mark.parametrize("since", [EPOCH, NOW - timedelta(days=1)], ids=["same moment", "later"])
def test_a_price_of_one_s_own_is_never_replaced_by_the_catalogue_s(
    books: Books, at: tuple[str, str], catalogue: Catalogue, since: datetime
) -> None:
    own = replace(OWN, effective_from=since)
    books.ledger.tenancy.upsert_provider("acme")
    books.ledger.billing.add_prices([own])
    catalogue(model())
    report = imported(at, "--from-now")
    assert len(report["kept"]) == (since == EPOCH)
    quote = {"provider": "acme", "model": "wise", "input_tokens": 1_000_000}
    found = books.ledger.billing.price(quote)
    assert isinstance(found, Priced)
    assert replace(found.price, id=None) == own


SIZES = TieredPrices(base=Decimal(3), tiers=[Tier(start=1_000, price=Decimal(4))])


@pytest.mark.parametrize(
    "theirs, overruled",
    [
        (rates(input_mtok=SIZES), 2),
        (dated((date(1970, 1, 1), rates()), (NOW.date(), rates(input_mtok=Decimal(3)))), 1),
    ],
    ids=["other sizes", "another day"],
)
def test_the_catalogue_adds_nothing_that_would_end_a_price_of_one_s_own(
    books: Books, at: tuple[str, str], catalogue: Catalogue, theirs: Any, overruled: int
) -> None:
    own = replace(OWN, effective_from=NOW - timedelta(days=9))
    books.ledger.tenancy.upsert_provider("acme")
    books.ledger.billing.add_prices([own])
    catalogue(model(prices=theirs))
    for inserted in (2 - overruled, 0):
        report = imported(at)
        assert (report["inserted"], report["overruled"]) == (inserted, overruled)
        assert report["conflicting"] == []
    quote = {"provider": "acme", "model": "wise", "input_tokens": 1_000_000}
    found = books.ledger.billing.price(quote)
    assert isinstance(found, Priced)
    assert replace(found.price, id=None) == own
    assert "left out, of what you price yourself" in succeed("prices", "import", *at).out


def test_a_provider_that_is_called_otherwise_is_priced_under_its_name(
    books: Books, at: tuple[str, str], catalogue: Catalogue
) -> None:
    books.ledger.tenancy.upsert_provider("umbrella")
    books.ledger.billing.record_usage(books.usage(provider="umbrella", model="wise-2026"))
    catalogue(model(match=ClauseStartsWith("wise")))
    assert "--as google=umbrella" in succeed("prices", "unpriced", *at).err

    report = imported(at, "--as", "acme=umbrella", "--provider", "umbrella")
    assert report["inserted"] > 0
    quote = {"provider": "umbrella", "model": "wise-2026", "input_tokens": 1}
    assert isinstance(books.ledger.billing.price(quote), Priced)
    assert imported(at, "--as", "acme=umbrella")["inserted"] == 0

    for wrong, told in (("acme", "is not two names"), ("nobody=x", "no such provider; it has")):
        assert told in run("prices", "import", "--as", wrong, *at).err


def test_what_waited_for_a_price_is_repriced_from_the_command_line(
    books: Books, at: tuple[str, str], catalogue: Catalogue
) -> None:
    books.ledger.tenancy.upsert_provider("acme")
    call = books.usage(provider="acme", model="wise")
    books.ledger.billing.record_usage(call)
    catalogue(model())
    imported(at)
    waiting = succeed("prices", "unpriced", *at)
    since = call.created_at.strftime("%Y-%m-%d")
    assert f"ledger prices reprice --from {since}" in waiting.err

    shown = succeed("prices", "reprice", "--from", since, *at)
    assert "1 call looked at; 1 difference would be booked, 1 of calls that had no" in shown.out
    assert "--book" in shown.err
    booked = succeed("prices", "reprice", "--from", since, "--book", "--json", *at).json()
    assert (booked["booked"], booked["newly_priced"]) == (1, 1)
    again = succeed("prices", "reprice", "--from", since, "--book", *at)
    assert "1 call looked at; 0 differences were booked" in again.out
    assert "No call waits for a price." in succeed("prices", "unpriced", *at).out


def test_a_context_size_that_the_catalogue_tells_apart_no_more_ends_from_now_on(
    books: Books, at: tuple[str, str], catalogue: Catalogue
) -> None:
    surcharge = TieredPrices(base=Decimal(2), tiers=[Tier(start=1_000, price=Decimal(4))])
    catalogue(model(prices=rates(input_mtok=surcharge)))
    imported(at)
    catalogue(model())
    quote = {"provider": "acme", "model": "wise", "input_tokens": 1_000_000}
    [conflict] = imported(at)["conflicting"]
    assert conflict["said"]["is_withdrawn"]
    before = books.ledger.billing.price(quote)
    assert "withdrawn" in succeed("prices", "import", "--from-now", *at).out
    after = books.ledger.billing.price(quote)
    assert isinstance(before, Priced)
    assert isinstance(after, Priced)
    assert [before.cost_usd, after.cost_usd] == [4, 2]
    assert imported(at)["conflicting"] == []


# --- files ---

CSV = """\
provider,model,effective_from,input_usd_per_million,output_usd_per_million,source
acme,wise,2026-01-01T00:00:00Z,2,8,a contract
umbrella,other,2026-01-01T00:00:00Z,1,,a contract
"""


@pytest.fixture(params=["prices.csv", "prices.JSON"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two prices, of two providers that the ledger does not know."""
    path: Path = tmp_path / request.param
    lines = [line.split(",") for line in CSV.splitlines()]
    rows = [dict(zip(lines[0], cells, strict=True)) for cells in lines[1:]]
    filled = [{name: cell for name, cell in row.items() if cell} for row in rows]
    path.write_text(CSV if path.suffix == ".csv" else json.dumps(filled), encoding="utf-8")
    return path


def test_a_file_of_one_s_own_is_imported_with_the_providers_it_needs(
    books: Books, at: tuple[str, str], file: Path
) -> None:
    report = imported(at, "--from", file)
    assert (report["inserted"], report["known"], report["left_out"]) == (2, 0, [])
    assert [price.source for price in (*stored(books), *stored(books, "other"))] == [OWN.source] * 2
    assert imported(at, "--from", file)["known"] == 2


def test_providers_that_are_named_are_imported_alone(
    books: Books, at: tuple[str, str], file: Path
) -> None:
    assert imported(at, "--from", file, "--provider", "acme")["inserted"] == 1
    assert sql(books.url, "SELECT name FROM ledger.providers ORDER BY name") == [
        ("acme",),
        ("openai",),
    ]


def test_a_file_that_says_otherwise_is_a_conflict_and_nothing_changes(
    books: Books, at: tuple[str, str], file: Path
) -> None:
    imported(at, "--from", file)
    other = file.with_name(f"other{file.suffix}")
    other.write_text(file.read_text().replace("8", "9"), encoding="utf-8")
    [conflict] = imported(at, "--from", other)["conflicting"]
    assert conflict["said"]["output_usd_per_million"] == "9"
    assert [price.output_usd_per_million for price in stored(books)] == [8]


def test_a_file_with_a_bad_line_is_refused_whole_and_the_line_is_named(
    books: Books, at: tuple[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(f"{CSV}acme,bad,2026-01-01T00:00:00Z,NaN,,a contract\n", encoding="utf-8")
    ran = run("prices", "import", "--from", path, *at)
    assert (ran.exit_code, ran.err.startswith("line 4: input_usd_per_million")) == (3, True)
    assert stored(books) == []
    assert sql(books.url, "SELECT name FROM ledger.providers") == [("openai",)]


def test_what_a_lagging_replica_has_not_seen_is_neither_lost_nor_added_twice(
    books: Books, file: Path, databases: Databases, target: Target
) -> None:
    name = databases.create(target.server, template=databases.template(target))
    behind = {
        "LEDGER_DATABASE_URL": books.url,
        "LEDGER_READ_URL": databases.url(target.server, name),
    }
    imported(("--database-url", books.url), "--from", file)
    again = succeed("prices", "import", "--from", file, "--json", environment=behind).json()
    assert (again["inserted"], again["known"]) == (0, 2)
    file.write_text(file.read_text().replace("8", "9"), encoding="utf-8")
    ran = run("prices", "import", "--from", file, environment=behind)
    assert ran.exit_code == 1
    assert "already recorded with other output_usd_per_million" in ran.out
    assert [price.output_usd_per_million for price in stored(books)] == [8]
    databases.drop(name)


@pytest.mark.parametrize(
    "options, said",
    [
        (["--from", "prices.xlsx"], "neither genai nor a file"),
        (["--from", "gone.csv"], "gone.csv cannot be read"),
        (["--provider", "nobody"], "has no provider 'nobody'; it has acme"),
        (["--text-only", "nothing"], "the catalogue has no model of that name"),
        (["--from", "a.csv", "--text-only", "wise"], "a file says what it is"),
        (["--from", "a.csv", "--from-now"], "a file says in effective_from"),
    ],
    ids=["kind of file", "no file", "provider", "model", "text only", "from now"],
)
def test_what_cannot_be_imported_is_refused_with_2_and_a_sentence(
    books: Books, at: tuple[str, str], catalogue: Catalogue, options: list[str], said: str
) -> None:
    catalogue(model())
    ran = run("prices", "import", *options, *at)
    assert ran.exit_code == 2
    assert said in ran.err
    assert books.ledger.billing.model_prices(provider="acme") == []


# --- show ---


@pytest.fixture
def shown(books: Books) -> list[ModelPrice]:
    """Prices of gpt-4o: of long ago, of a large context, of a tier, and of two hours ago."""
    prices = [
        PRICE,
        replace(PRICE, context_tokens_from=200_001, input_usd_per_million=Decimal("5.125")),
        replace(PRICE, service_tier="batch", output_usd_per_million=Decimal("0.000001")),
        replace(
            PRICE, effective_from=NOW - timedelta(hours=2), input_usd_per_million=Decimal(1_234)
        ),
    ]
    books.ledger.billing.add_prices(prices)
    return prices


def test_the_rates_that_hold_are_shown_with_tier_context_and_source(
    at: tuple[str, str], shown: list[ModelPrice]
) -> None:
    _, large, batch, now = shown
    ran = succeed("prices", "show", "gpt-4o", *at)
    rows = [line.split() for line in ran.out.splitlines() if "openai" in line]
    assert [row[:4] for row in rows] == [
        ["openai", "batch", "0", "2.5"],
        ["openai", "standard", "0", "1234"],
        ["openai", "standard", "200,001", "5.125"],
    ]
    assert "0.000001" in ran.out
    assert ran.out.count("as input") == 3, "cache writes without a rate of their own"
    assert ran.out.count(PRICE.source) == 3
    report = succeed("prices", "show", "gpt-4o", "--json", *at).json()
    assert [{**each, "id": None} for each in report["prices"]] == [
        each.to_dict() for each in (batch, now, large)
    ]


def test_the_rates_of_another_moment_are_shown(
    at: tuple[str, str], shown: list[ModelPrice]
) -> None:
    when = (NOW - timedelta(hours=3)).isoformat()
    options = ("--at", when, "--provider", "openai", "--json")
    found = succeed("prices", "show", "gpt-4o", *options, *at).json()
    assert datetime.fromisoformat(found["at"]) == datetime.fromisoformat(when)
    assert [each["input_usd_per_million"] for each in found["prices"]] == ["2.5", "2.5", "5.125"]
    assert all(each["source"] == shown[0].source for each in found["prices"])


def test_a_withdrawn_price_is_shown_to_be(books: Books, at: tuple[str, str]) -> None:
    books.ledger.billing.add_prices(
        [ModelPrice(**_withdrawn(effective_from=NOW - timedelta(days=1)))]
    )
    assert "withdrawn" in succeed("prices", "show", "gpt-4o", *at).out


def _withdrawn(**what_matters: Any) -> dict[str, Any]:
    named = {"provider": "openai", "model": "gpt-4o", "source": "a letter"}
    return {**named, "is_withdrawn": True, **what_matters}


@pytest.mark.parametrize(
    "words, said",
    [
        (("gpt-9",), "There is no price of model 'gpt-9'; `ledger prices import`"),
        (("gpt-4o", "--provider", "azure"), "model 'gpt-4o' of provider 'azure'"),
        (("gpt-4o", "--at", "2020-01-01"), "begin on 2024-01-01 00:00 UTC, after 2020-01-01"),
    ],
    ids=["model", "provider", "time"],
)
def test_without_a_price_a_sentence_says_why_and_the_exit_code_is_1(
    at: tuple[str, str], words: tuple[str, ...], said: str
) -> None:
    ran = run("prices", "show", *words, *at)
    assert (ran.exit_code, ran.out) == (1, "")
    assert said in ran.err
    as_json = run("prices", "show", *words, "--json", *at)
    assert (as_json.exit_code, as_json.json()["prices"]) == (1, [])


def test_a_time_that_cannot_be_read_is_refused(at: tuple[str, str]) -> None:
    ran = run("prices", "show", "gpt-4o", "--at", "yesterday", *at)
    assert ran.exit_code == 2
    assert "'yesterday' is not a time" in ran.err


# --- unpriced ---


@pytest.fixture
def waiting(books: Books) -> Books:
    """Three calls that wait for a price, of two models, and one that has it."""
    calls = [
        books.usage("a", model="gpt-5", input_tokens=1_234_567),
        books.usage("b", model="gpt-5", created_at=NOW - timedelta(days=3)),
        books.usage("c", model="evil\x1b[2J[bold]model"),
        books.usage("d"),
    ]
    assert books.ledger.billing.record_usages(calls).inserted == 4
    return books


def test_calls_without_a_price_are_listed_with_what_they_wait_for(
    waiting: Books, at: tuple[str, str]
) -> None:
    ran = succeed("prices", "unpriced", *at)
    assert "3 calls without a price." in ran.out
    assert "unknown_model" in ran.out
    assert "1,235,567" in ran.out, "their input tokens, added up"
    found = succeed("prices", "unpriced", "--json", *at).json()
    assert found == [each.to_dict() for each in waiting.ledger.billing.unpriced_usage()]
    assert len(succeed("prices", "unpriced", "--limit", 1, "--json", *at).json()) == 1


@pytest.mark.usefixtures("waiting")
def test_calls_of_a_time_are_listed_alone(at: tuple[str, str]) -> None:
    since = (NOW - timedelta(days=1)).isoformat()
    assert "2 calls without" in succeed("prices", "unpriced", "--from", since, *at).out
    until = (NOW - timedelta(days=2)).isoformat()
    before = ("--from", (NOW - timedelta(days=9)).isoformat(), "--to", until)
    assert "1 call without" in succeed("prices", "unpriced", *before, *at).out
    assert run("prices", "unpriced", "--to", until, *at).exit_code == 2


@pytest.mark.usefixtures("waiting")
def test_a_model_s_name_cannot_steer_the_terminal(at: tuple[str, str]) -> None:
    out = succeed("prices", "unpriced", *at).out
    assert "\x1b" not in out
    assert "[2J[bold]model" in out


def test_no_call_without_a_price_is_said_to_be_none(at: tuple[str, str]) -> None:
    assert succeed("prices", "unpriced", *at).out == "No call waits for a price.\n"


def test_progress_is_shown_to_a_terminal_and_to_nothing_else(
    at: tuple[str, str], catalogue: Catalogue
) -> None:
    catalogue(model())
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    shown: Ran = succeed("prices", "import", *at, environment=terminal)
    assert "Reading prices" in shown.err
    assert "Reading prices" not in succeed("prices", "import", *at).err
