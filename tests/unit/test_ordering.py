"""The order in which a model sees candidates: the same for the same seed, on every machine; favouring nobody."""

from collections import Counter
from dataclasses import replace

import pytest

from pipeline.candidates.ordering import WINDOW, Ordering
from pipeline.domain import CandidateOrder, Candidates, CustomerId, ProductId
from tests.fixtures.shop import NOW, some_candidates

ANNA = CustomerId("anna")


def ordered(order: CandidateOrder, *, seed: int = 7, customer: str = ANNA, number: int = 50) -> Candidates:
    return Ordering(order, seed).ordered(CustomerId(customer), some_candidates(number).found, NOW)


def test_the_order_of_a_seed_is_the_same_on_every_machine() -> None:
    assert [it.product_id for it in ordered("shuffled", number=5).offered] == ["p4", "p1", "p3", "p2", "p5"]


@pytest.mark.parametrize("order", ["shuffled", "retrieval", "windows"])
def test_all_that_was_found_is_offered_once(order: CandidateOrder) -> None:
    made = ordered(order)
    assert made.found == some_candidates(50).found
    assert sorted(it.product_id for it in made.offered) == sorted(it.product.product_id for it in made.found)


def test_another_seed_and_another_customer_have_another_order() -> None:
    assert ordered("shuffled").offered == ordered("shuffled").offered
    assert ordered("shuffled").offered != ordered("shuffled", seed=8).offered
    assert ordered("shuffled").offered != ordered("shuffled", customer="ben").offered


def test_no_candidate_is_favoured_by_its_place() -> None:
    first = Counter(ordered("shuffled", customer=f"c{number}", number=10).offered[0] for number in range(2_000))
    assert len(first) == 10
    assert all(140 <= times <= 260 for times in first.values())  # 200 each, give or take four deviations and a half


def test_retrieval_order_is_best_first() -> None:
    made = ordered("retrieval")
    assert made.offered == tuple(it.product for it in made.found)
    assert made.interchangeable == 1


def test_windows_are_best_first_and_shuffled_in_themselves() -> None:
    made = ordered("windows", number=50)
    best_first = [it.product for it in made.found]
    for begin in range(0, 50, WINDOW):
        window = made.offered[begin : begin + WINDOW]
        assert set(window) == set(best_first[begin : begin + WINDOW])
        assert list(window) != best_first[begin : begin + WINDOW]
    assert made.interchangeable == WINDOW


def test_a_candidate_more_moves_no_other() -> None:
    found = some_candidates(20).found
    whole = Ordering("shuffled", 7).ordered(ANNA, found, NOW).offered
    fewer = Ordering("shuffled", 7).ordered(ANNA, found[:-1], NOW).offered
    assert tuple(it for it in whole if it != found[-1].product) == fewer


def test_nobody_and_ids_of_any_kind_are_ordered_too() -> None:
    assert ordered("shuffled", number=0).offered == ()
    odd = [
        replace(it, product=replace(it.product, product_id=ProductId("\ud800" + "x" * 200)))
        for it in some_candidates(1).found
    ]
    assert len(Ordering("shuffled", 7).ordered(CustomerId("\ud800" * 200), tuple(odd), NOW).offered) == 1
