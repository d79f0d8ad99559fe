"""Places among the candidates: never too many, each product once, shares and diversity kept while there are others."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pipeline.candidates.arranging import Found, Places, arrange, calls_for_more
from pipeline.domain import Candidate, FoundBy, Product, ProductId, Rule


def candidate(
    product_id: str, found_by: FoundBy, *, category: str | None = None, brand: str | None = None
) -> Candidate:
    return Candidate(Product(ProductId(product_id), product_id, brand, category), 1.0, found_by)


def some(found_by: FoundBy, number: int, *, letter: str | None = None, category: str | None = None) -> list[Candidate]:
    letter = letter or found_by[0]
    return [candidate(f"{letter}{place:03}", found_by, category=category) for place in range(number)]


def ids(candidates: Sequence[Candidate]) -> list[str]:
    return [it.product.product_id for it in candidates]


def of_kind(found_by: FoundBy) -> st.SearchStrategy[list[Candidate]]:
    """Candidates of few ids, categories and brands, so that all of them collide."""
    one = st.builds(
        lambda number: candidate(
            f"p{number}", found_by, category=f"c{number % 3}" if number % 4 else None, brand=f"b{number % 5}"
        ),
        st.integers(0, 40),
    )
    return st.lists(one, max_size=40, unique_by=lambda it: it.product.product_id)


FOUND = st.builds(
    Found,
    pinned=of_kind(FoundBy.PINNED),
    neighbours=of_kind(FoundBy.NEIGHBOURS),
    repeats=of_kind(FoundBy.REPEAT),
    newcomers=of_kind(FoundBy.NEWCOMER),
    popular=of_kind(FoundBy.POPULAR),
)
SHARE = st.sampled_from([0.0, 0.05, 0.3, 0.5, 1.0])
PLACES = st.builds(
    Places,
    most=st.integers(1, 50),
    repeat_share=SHARE,
    newcomer_share=SHARE,
    per_category=st.integers(0, 5),
    per_brand=st.integers(0, 5),
)


@given(FOUND, PLACES)
def test_no_product_comes_twice_and_no_place_stays_empty_while_there_is_a_product(found: Found, places: Places) -> None:
    arranged, _ = arrange(found, places)
    every = {
        it.product.product_id
        for kind in (found.pinned, found.neighbours, found.repeats, found.newcomers, found.popular)
        for it in kind
    }
    assert len(set(ids(arranged))) == len(arranged) == min(places.most, len(every))


@given(FOUND, PLACES)
def test_what_is_one_too_many_of_its_kind_stands_behind_all_that_is_not(found: Found, places: Places) -> None:
    arranged, _ = arrange(found, places)
    categories: Counter[str] = Counter()
    brands: Counter[str] = Counter()
    kinds: Counter[FoundBy] = Counter()
    limits = {FoundBy.REPEAT: places.for_repeats, FoundBy.NEWCOMER: places.for_newcomers}
    filled_up = False
    for it in arranged:
        fits = kinds[it.found_by] < limits.get(it.found_by, 10_000)
        if it.found_by is not FoundBy.PINNED:
            fits = fits and not (places.per_brand and brands[it.product.brand or ""] >= places.per_brand)
            full = places.per_category and categories[it.product.category or ""] >= places.per_category
            fits = fits and not (full and it.product.category)
        assert not (filled_up and fits)
        filled_up = not fits
        kinds[it.found_by] += 1
        categories[it.product.category or ""] += 1
        brands[it.product.brand or ""] += 1


@given(FOUND, PLACES)
def test_what_is_said_to_be_left_out_is_not_in(found: Found, places: Places) -> None:
    arranged, left_out = arrange(found, places)
    assert not {product_id for _, product_id in left_out} & set(ids(arranged))
    assert {rule for rule, _ in left_out} <= {Rule.TOO_MANY_OF_BRAND, Rule.TOO_MANY_OF_CATEGORY}


def test_repeats_and_newcomers_have_their_share_and_the_first_ten_are_mixed_as_the_whole_is() -> None:
    found = Found(
        neighbours=some(FoundBy.NEIGHBOURS, 200),
        repeats=some(FoundBy.REPEAT, 200),
        newcomers=some(FoundBy.NEWCOMER, 200, letter="c"),
    )
    arranged, _ = arrange(found, Places(100, repeat_share=0.3, newcomer_share=0.05))
    kinds = Counter(it.found_by for it in arranged)
    first = Counter(it.found_by for it in arranged[:10])
    assert kinds == {FoundBy.NEIGHBOURS: 65, FoundBy.REPEAT: 30, FoundBy.NEWCOMER: 5}
    assert first[FoundBy.REPEAT] == 3
    assert arranged[0].found_by is FoundBy.NEIGHBOURS


def test_the_first_newcomer_stands_where_three_quarters_of_one_are_due() -> None:
    found = Found(
        neighbours=some(FoundBy.NEIGHBOURS, 200),
        newcomers=some(FoundBy.NEWCOMER, 200, letter="c"),
    )
    arranged, _ = arrange(found, Places(100, newcomer_share=0.05))
    places = [place for place, it in enumerate(arranged, start=1) if it.found_by is FoundBy.NEWCOMER]
    assert places == [15, 35, 55, 75, 95]


def test_more_is_called_for_where_places_are_empty_or_one_kind_has_more_than_its_share() -> None:
    places = Places(10, repeat_share=0.3, newcomer_share=0.1)
    repeats, newcomers = some(FoundBy.REPEAT, 10), some(FoundBy.NEWCOMER, 10, letter="c")
    others = some(FoundBy.NEIGHBOURS, 10)
    assert not calls_for_more([*others[:6], *repeats[:3], *newcomers[:1]], places)
    assert calls_for_more([*others[:5], *repeats[:3], *newcomers[:1]], places)
    assert calls_for_more([*others[:6], *repeats[:4]], places)
    assert calls_for_more([*others[:8], *newcomers[:2]], places)


def test_who_has_bought_one_thing_has_it_among_the_first() -> None:
    found = Found(neighbours=some(FoundBy.NEIGHBOURS, 200), repeats=some(FoundBy.REPEAT, 1))
    arranged, _ = arrange(found, Places(100, repeat_share=0.3, newcomer_share=0.05))
    assert "r000" in ids(arranged[:3])


def test_places_that_would_stay_empty_go_to_more_repeats() -> None:
    found = Found(neighbours=some(FoundBy.NEIGHBOURS, 2), repeats=some(FoundBy.REPEAT, 20))
    arranged, _ = arrange(found, Places(10, repeat_share=0.3, newcomer_share=0.0))
    assert Counter(it.found_by for it in arranged) == {FoundBy.NEIGHBOURS: 2, FoundBy.REPEAT: 8}


def test_pins_come_first_and_are_counted_but_never_crowded_out() -> None:
    found = Found(
        pinned=some(FoundBy.PINNED, 4, letter="i", category="Books"),
        neighbours=[*some(FoundBy.NEIGHBOURS, 5, category="Books"), *some(FoundBy.NEIGHBOURS, 20, letter="m")],
    )
    arranged, left_out = arrange(found, Places(10, per_category=3))
    assert ids(arranged)[:4] == ["i000", "i001", "i002", "i003"]
    assert all(it.product.category is None for it in arranged[4:])
    assert left_out == [(Rule.TOO_MANY_OF_CATEGORY, f"n{place:03}") for place in range(5)]


def test_a_shop_that_sells_one_brand_fills_its_places_with_it() -> None:
    found = Found(neighbours=[candidate(f"n{number}", FoundBy.NEIGHBOURS, brand="Own") for number in range(20)])
    arranged, left_out = arrange(found, Places(10, per_brand=3))
    assert ids(arranged) == [f"n{number}" for number in range(10)]
    assert all(rule is Rule.TOO_MANY_OF_BRAND for rule, _ in left_out)
