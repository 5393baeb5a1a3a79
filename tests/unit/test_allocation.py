"""Costs are shared out by the rules, to the last digit, and nothing is lost or made up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact, localcontext
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import InvalidArgument, Window
from ledger.records.allocation import AllocationRule, Condition, CostAllocation, CostSum
from ledger.records.allocation_shares import allocated, divided, shares_of

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
WINDOW = Window(start=NOON, end=NOON)
UNIT = Fraction(1, 10**12)
AGENTS = ["backend", "frontend"]
PROJECTS, USERS = ([UUID(int=10 * of + number) for number in (1, 2)] for of in (1, 2))


def shared_out(rules: Sequence[AllocationRule], *sums: CostSum) -> CostAllocation:
    return allocated(shares_of(rules), sums, WINDOW)


def cost(cents: str, runs: int = 1, **who: Any) -> CostSum:
    return CostSum(condition=Condition(**who), runs=runs, cost_cents=Decimal(cents))


def borne(allocation: CostAllocation) -> dict[str, Decimal]:
    return {each.to: each.cost_cents for each in allocation.allocations}


def conditions(*, is_any: bool) -> st.SearchStrategy[dict[str, Any]]:
    """Of a rule, which may leave out what it likes, or of runs."""
    nothing = [None] if is_any else []
    return st.fixed_dictionaries(
        {
            "agent_id": st.sampled_from([*nothing, *AGENTS]),
            "project_id": st.sampled_from([*nothing, *PROJECTS]),
            "user_id": st.sampled_from([*nothing, *USERS]),
        }
    )


@st.composite
def rules_of_a_condition(draw: st.DrawFn, condition: dict[str, Any]) -> list[AllocationRule]:
    """Rules whose shares are 1, or less with rules that take the rest."""
    takers = draw(st.lists(st.sampled_from("ABCD"), min_size=1, max_size=4))
    thousandths = draw(st.lists(st.integers(0, 1_000), min_size=len(takers), max_size=len(takers)))
    left, rules = 1_000, []
    for to, share in zip(takers[:-1], thousandths, strict=False):
        taken = min(share, left - 1)
        left -= taken
        rules.append(AllocationRule(to=to, share=Decimal(taken).scaleb(-3), **condition))
    rest = draw(st.sampled_from([None, Decimal(left).scaleb(-3)]))
    return [*rules, AllocationRule(to=takers[-1], share=rest, **condition)]


@st.composite
def any_rules(draw: st.DrawFn) -> list[AllocationRule]:
    """Rules of some conditions, in any order."""
    wanted = draw(
        st.lists(conditions(is_any=True), max_size=4, unique_by=lambda each: Condition(**each))
    )
    every = [rule for condition in wanted for rule in draw(rules_of_a_condition(condition))]
    return draw(st.permutations(every))


any_cents = st.decimals(0, 10**20, places=12)
any_sums = st.lists(
    st.builds(
        CostSum,
        condition=conditions(is_any=False).map(lambda who: Condition(**who)),
        runs=st.integers(1, 10**9),
        cost_cents=any_cents,
    ),
    max_size=8,
)


def matches(rule: AllocationRule, who: Condition) -> bool:
    asked = (rule.agent_id, rule.project_id, rule.user_id)
    return all(want in {None, found} for want, found in zip(asked, who, strict=True))


def exact_parts(
    rules: Sequence[AllocationRule], sums: Sequence[CostSum]
) -> tuple[dict[str, Fraction], int]:
    """What each would bear if there were no last digit, and how often that is rounded."""
    parts: dict[str, Fraction] = defaultdict(Fraction)
    for each in sums:
        first = next((rule for rule in rules if matches(rule, each.condition)), None)
        if first is None:
            continue
        group = [rule for rule in rules if rule.condition == first.condition]
        said = sum((Fraction(rule.share) for rule in group if rule.share is not None), Fraction(0))
        silent = sum(rule.share is None for rule in group)
        for rule in group:
            share = (1 - said) / silent if rule.share is None else Fraction(rule.share)
            parts[rule.to] += share * Fraction(each.cost_cents)
    return parts, len({rule.condition for rule in rules})


@given(rules=any_rules(), sums=any_sums)
def test_the_parts_add_up_to_the_whole(rules: list[AllocationRule], sums: list[CostSum]) -> None:
    found = shared_out(rules, *sums)
    whole = sum(Fraction(each.cost_cents) for each in sums)
    parts = sum(Fraction(cents) for cents in borne(found).values())
    assert Fraction(found.total_cents) == whole
    assert parts + Fraction(found.unallocated_cents) == whole
    assert found.runs == sum(each.runs for each in sums)


@given(rules=any_rules(), sums=any_sums)
def test_nobody_bears_more_than_a_last_digit_too_much_or_too_little(
    rules: list[AllocationRule], sums: list[CostSum]
) -> None:
    found = borne(shared_out(rules, *sums))
    exact, roundings = exact_parts(rules, sums)
    assert set(found) == {rule.to for rule in rules}
    for to, cents in found.items():
        assert abs(Fraction(cents) - exact[to]) < UNIT * max(roundings, 1)
        assert cents >= 0


@given(rules=any_rules(), sums=any_sums)
def test_what_no_rule_is_about_is_not_allocated(
    rules: list[AllocationRule], sums: list[CostSum]
) -> None:
    found = shared_out(rules, *sums)
    nobodys = [each for each in sums if not any(matches(rule, each.condition) for rule in rules)]
    assert Fraction(found.unallocated_cents) == sum(Fraction(each.cost_cents) for each in nobodys)
    assert found.unallocated_runs == sum(each.runs for each in nobodys)


@given(rules=any_rules(), data=st.data(), sums=any_sums)
def test_the_order_of_the_runs_makes_no_difference(
    rules: list[AllocationRule], data: st.DataObject, sums: list[CostSum]
) -> None:
    shuffled = data.draw(st.permutations(sums))
    assert shared_out(rules, *sums) == shared_out(rules, *shuffled)


@given(
    units=st.integers(0, 10**30),
    weights=st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any),
)
def test_the_units_left_go_to_those_who_lost_most(units: int, weights: list[int]) -> None:
    shares = {str(place): Fraction(weight, sum(weights)) for place, weight in enumerate(weights)}
    found = divided(units, shares)
    assert sum(found.values()) == units

    wanted = {to: int(units * share) for to, share in shares.items()}
    lost = {to: units * share - wanted[to] for to, share in shares.items()}
    while sum(wanted.values()) < units:
        most = max(lost, key=lost.__getitem__)  # the first of equals
        wanted[most] += 1
        lost[most] = Fraction(-1)
    assert found == wanted


def test_a_cent_among_three_is_lost_by_nobody() -> None:
    rules = [AllocationRule(to=to) for to in ("first", "second", "third")]
    assert borne(shared_out(rules, cost("0.000000000002"))) == {
        "first": Decimal("1e-12"),
        "second": Decimal("1e-12"),
        "third": Decimal(0),
    }
    assert borne(shared_out(rules, cost("1"))) == {
        "first": Decimal("0.333333333334"),
        "second": Decimal("0.333333333333"),
        "third": Decimal("0.333333333333"),
    }


def test_runs_of_a_condition_are_rounded_together() -> None:
    rules = [AllocationRule(to="a", agent_id="backend"), AllocationRule(to="b", agent_id="backend")]
    halves = [cost("1e-12", agent_id="backend") for _ in range(2)]
    assert borne(shared_out(rules, *halves)) == {"a": Decimal("1e-12"), "b": Decimal("1e-12")}


def test_the_condition_that_is_named_first_decides() -> None:
    everything = cost("10", agent_id="backend", project_id=PROJECTS[0], user_id=USERS[0])
    narrow = AllocationRule(to="narrow", agent_id="backend", user_id=USERS[0])
    wide = AllocationRule(to="wide", project_id=PROJECTS[0])
    assert borne(shared_out([narrow, wide], everything)) == {"narrow": 10, "wide": 0}
    assert borne(shared_out([wide, narrow], everything)) == {"wide": 10, "narrow": 0}


def test_a_rule_matches_what_has_all_that_it_says() -> None:
    rule = AllocationRule(to="a", agent_id="backend", user_id=USERS[0])
    found = shared_out(
        [rule],
        cost("1", agent_id="backend", user_id=USERS[0]),
        cost("2", agent_id="backend", user_id=USERS[1]),
        cost("4", agent_id="frontend", user_id=USERS[0], runs=3),
    )
    assert borne(found) == {"a": 1}
    assert (found.unallocated_cents, found.unallocated_runs) == (Decimal(6), 4)


def test_a_condition_is_one_however_far_apart_its_rules_stand() -> None:
    rules = [
        AllocationRule(to="a", share=Decimal("0.25"), agent_id="backend"),
        AllocationRule(to="all", user_id=USERS[0]),
        AllocationRule(to="b", share=Decimal("0.75"), agent_id="backend"),
    ]
    found = shared_out(rules, cost("8", agent_id="backend", user_id=USERS[0]))
    assert borne(found) == {"a": 2, "all": 0, "b": 6}


def test_rules_without_a_share_get_equal_parts_of_the_rest() -> None:
    rules = [
        AllocationRule(to="half", share=Decimal("0.5")),
        AllocationRule(to="a"),
        AllocationRule(to="b"),
    ]
    assert borne(shared_out(rules, cost("10"))) == {"half": 5, "a": Decimal("2.5"), "b": 2.5}


def test_who_is_named_twice_bears_both_parts() -> None:
    rules = [
        AllocationRule(to="a", share=Decimal("0.25")),
        AllocationRule(to="b", share=Decimal("0.25")),
        AllocationRule(to="a", share=Decimal("0.5")),
    ]
    assert borne(shared_out(rules, cost("4"))) == {"a": 3, "b": 1}


def test_without_rules_nothing_is_allocated() -> None:
    found = shared_out([], cost("3.5", runs=2))
    assert not found.allocations
    assert (found.unallocated_cents, found.unallocated_runs) == (Decimal("3.5"), 2)


def test_without_runs_everybody_bears_nothing() -> None:
    found = shared_out([AllocationRule(to="a")])
    assert borne(found) == {"a": 0}
    assert (found.runs, found.total_cents, found.unallocated_cents) == (0, Decimal(0), Decimal(0))


def test_a_third_that_was_divided_out_is_no_share_of_three() -> None:
    third = Decimal(1) / 3
    with pytest.raises(InvalidArgument, match=r"any run add up to 0.99+, not to 1; correct them"):
        shares_of([AllocationRule(to=to, share=third) for to in "abc"])


def test_the_threads_own_arithmetic_has_no_part_in_it() -> None:
    rules = [AllocationRule(to="a", share=Decimal("0.123456789")), AllocationRule(to="b")]
    with localcontext(Context(prec=3, traps=[Inexact])):
        found = shared_out(rules, cost("999999999999999999.999999999999"))
        assert borne(found) == {
            "a": 123456789 * 10**9,
            "b": Decimal("876543210999999999.999999999999"),
        }


@pytest.mark.parametrize("shares", [["0.5", "0.4"], ["0.5", "0.6"], ["0"], ["1", "1", None]])
def test_shares_that_are_not_a_whole_are_named(shares: list[str | None]) -> None:
    rules = [
        AllocationRule(
            to="a", share=None if share is None else Decimal(share), agent_id="x", user_id=USERS[0]
        )
        for share in shares
    ]
    total = sum(Decimal(share) for share in shares if share is not None)
    with pytest.raises(
        InvalidArgument, match=rf"agent_id x and user_id {USERS[0]} add up to {total}"
    ):
        shares_of(rules)


def test_a_rule_that_would_get_nothing_has_to_say_so() -> None:
    whole, silent = AllocationRule(to="a", share=Decimal(1)), AllocationRule(to="b")
    with pytest.raises(InvalidArgument, match="leave nothing for 1 without a share"):
        shares_of([whole, silent])
    said = AllocationRule(to="b", share=Decimal(0))
    assert borne(shared_out([whole, said], cost("2"))) == {"a": 2, "b": 0}


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"to": ""}, "to '' of a rule is not a text of its name"),
        ({"to": None}, "to None of a rule"),
        ({"agent_id": 7}, "agent_id 7 of a rule"),
        ({"agent_id": ""}, "agent_id '' of a rule"),
        ({"project_id": "mine"}, "project_id 'mine' of a rule is not a UUID"),
        ({"user_id": 7}, "user_id 7 of a rule is not a UUID"),
        ({"share": 0.25}, "share 0.25 is not a Decimal; write Decimal"),
        ({"share": 1}, "share 1 is not a Decimal"),
        ({"share": Decimal("-0.1")}, r"share Decimal\('-0.1'\) is not from 0 to 1"),
        ({"share": Decimal("1.1")}, r"share Decimal\('1.1'\) is not from 0 to 1"),
        ({"share": Decimal("NaN")}, "is not from 0 to 1"),
        ({"share": Decimal("sNaN")}, "is not from 0 to 1"),
        ({"share": Decimal("Infinity")}, "is not from 0 to 1"),
        ({"share": Decimal("1e-51")}, "of at most 50 decimals"),
        ({"share": Decimal("1e-999999")}, "of at most 50 decimals"),
    ],
)
def test_a_rule_that_says_nothing_sensible_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        AllocationRule(**{"to": "a", **wrong})


def test_an_id_may_be_text() -> None:
    rule = AllocationRule(to="a", project_id=str(PROJECTS[0]), user_id=USERS[0].hex)
    assert rule == AllocationRule(to="a", project_id=PROJECTS[0], user_id=USERS[0])


@pytest.mark.parametrize(
    "rules, words",
    [
        ((rule for rule in "ab"), "generator .* are not a list of AllocationRule"),
        ({AllocationRule(to="a")}, "are not a list of AllocationRule"),
        ("a rule", "'a' among the rules is not an AllocationRule"),
        ([{"to": "a"}], "{'to': 'a'} among the rules is not an AllocationRule"),
        (None, "rules None are not a list"),
    ],
    ids=["generator", "set", "text", "mapping", "none"],
)
def test_what_is_no_list_of_rules_is_refused(rules: Any, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        shares_of(rules)
