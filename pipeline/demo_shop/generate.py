"""Generates the demo shop's customers and what they did: the same shop for the same seed, on any day."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

from pipeline.demo_shop.catalog import Shelf, ShelfProduct, generate_shelves
from pipeline.demo_shop.vocabulary import LOYALTY, TIME_ZONES
from pipeline.loading.event_records import EventKind, EventRecord
from pipeline.loading.records import CustomerRecord, ProductRecord

SEED = 12345
CUSTOMERS = 200
PRODUCTS = 2_000
COLD_CUSTOMERS = 16
VISITS_OF_ALL = 6_550
MOST_ZEAL = 6.0  # times the usual
PERIOD_BEGINS = datetime(2025, 11, 1, tzinfo=UTC)
PERIOD_ENDS = datetime(2026, 11, 1, tzinfo=UTC)

_DAYS = 365
_HABITS = {  # when somebody shops: weekend or not (None: both), and the hours
    "Weekday mornings": (False, 7, 11),
    "Weekday afternoons": (False, 13, 17),
    "Weekday evenings": (False, 18, 22),
    "Weekend mornings": (True, 8, 11),
    "Weekend afternoons": (True, 13, 17),
    "Weekend evenings": (True, 18, 23),
}


@dataclass(frozen=True, slots=True)
class DemoShop:
    """A whole generated shop."""

    customers: tuple[CustomerRecord, ...]
    products: tuple[ProductRecord, ...]
    events: tuple[EventRecord, ...]


@dataclass(slots=True)
class _Shopper:
    """A customer with the tastes that his events follow."""

    record: CustomerRecord
    shelves: tuple[Shelf, ...]
    brands: frozenset[str]
    habit: str
    zone: ZoneInfo
    owned: list[ShelfProduct] = field(default_factory=list)


def generate(seed: int = SEED) -> DemoShop:
    """200 customers, some of them cold, 2,000 products and about 20,000 events of every kind."""
    random = Random(seed)  # noqa: S311 - a shop that repeats itself is the point; nothing here is a secret
    shelves = generate_shelves(random, PRODUCTS)
    shoppers = [_shopper(random, shelves, number) for number in range(1, CUSTOMERS + 1)]
    events = [
        event
        for shopper, visits in zip(shoppers, _visits(random), strict=True)
        for event in _history(random, shelves, shopper, visits)
    ]
    return DemoShop(
        customers=tuple(shopper.record for shopper in shoppers),
        products=tuple(product.record for shelf in shelves for product in shelf.products),
        events=tuple(events),
    )


def _shopper(random: Random, shelves: tuple[Shelf, ...], number: int) -> _Shopper:
    favourites = tuple(random.sample(shelves, random.choice((1, 2, 2, 3))))
    brands = [random.choice(shelf.category.brands) for shelf in favourites]
    habit = random.choice(list(_HABITS))
    zone = random.choice(TIME_ZONES)
    stated: dict[str, str | int | list[str]] = {
        "loyalty_status": random.choices([name for name, _ in LOYALTY], [weight for _, weight in LOYALTY])[0]
    }
    if random.random() < 0.7:
        stated["preferred_brands"] = brands
    if random.random() < 0.6:
        stated["preferred_shopping_times"] = habit
    if random.random() < 0.5:
        stated["average_monthly_spend"] = 10 * random.randint(3, 60)
    record = CustomerRecord.model_validate({"customer_id": f"C{number:03}", "time_zone": zone, **stated})
    return _Shopper(record, favourites, frozenset(brands), habit, ZoneInfo(zone))


def _visits(random: Random) -> list[int]:
    """How often each customer comes in the period: a few very often, most now and then, the cold never."""
    zeal = [min(random.lognormvariate(0, 0.8), MOST_ZEAL) for _ in range(CUSTOMERS)]
    for cold in random.sample(range(CUSTOMERS), COLD_CUSTOMERS):
        zeal[cold] = 0.0
    return [max(1, round(VISITS_OF_ALL * one / sum(zeal))) if one else 0 for one in zeal]


def _history(random: Random, shelves: tuple[Shelf, ...], shopper: _Shopper, visits: int) -> Iterator[EventRecord]:
    moments = sorted(_moment_of_visit(random, shopper) for _ in range(visits))
    for moment in moments:
        yield from _visit(random, shelves, shopper, moment)


def _moment_of_visit(random: Random, shopper: _Shopper) -> datetime:
    """A moment in the period; three of four follow the shopper's habit, in his own time zone."""
    day = PERIOD_BEGINS + timedelta(days=6 + int(random.random() * (_DAYS - 7)))  # the loop goes back up to five
    habit = shopper.habit if random.random() < 0.75 else random.choice(list(_HABITS))
    on_weekend, first_hour, last_hour = _HABITS[habit]
    while (day.weekday() >= 5) != on_weekend:
        day -= timedelta(days=1)
    hour, minute, second = random.randint(first_hour, last_hour), random.randrange(60), random.randrange(60)
    local = datetime(day.year, day.month, day.day, hour, minute, second, tzinfo=shopper.zone)
    return local.astimezone(UTC)


def _visit(random: Random, shelves: tuple[Shelf, ...], shopper: _Shopper, moment: datetime) -> Iterator[EventRecord]:
    shelf = _chosen_shelf(random, shelves, shopper, moment)
    looked_at = _looked_at(random, shopper, shelf)
    clock = _clock(random, moment)
    if random.random() < 0.4:
        yield _event(shopper, "search", next(clock), text=looked_at[0].words)
    for product in looked_at:
        yield _event(shopper, "view", next(clock), product)
    if random.random() < 0.15:
        yield _event(shopper, "response", next(clock), looked_at[-1], value=float(random.random() < 0.45))
    if random.random() < 0.25 + 0.2 * shelf.category.months[moment.month - 1]:
        yield from _purchase(random, shopper, _bought(random, shopper, shelf, looked_at), next(clock))


def _chosen_shelf(random: Random, shelves: tuple[Shelf, ...], shopper: _Shopper, moment: datetime) -> Shelf:
    """Mostly a favourite, sometimes any; what is in season is chosen more often."""
    offered = shopper.shelves if random.random() < 0.85 else shelves
    return random.choices(offered, [shelf.category.months[moment.month - 1] for shelf in offered])[0]


def _looked_at(random: Random, shopper: _Shopper, shelf: Shelf) -> list[ShelfProduct]:
    weights = [product.weight * (4 if product.record.brand in shopper.brands else 1) for product in shelf.products]
    return random.choices(shelf.products, weights, k=random.choice((1, 1, 2, 2, 3)))


def _bought(random: Random, shopper: _Shopper, shelf: Shelf, looked_at: list[ShelfProduct]) -> ShelfProduct:
    owned = [product for product in shopper.owned if product.record.category == shelf.category.name]
    if owned and random.random() < shelf.category.bought_again:
        return random.choice(owned)
    return looked_at[-1]


def _purchase(random: Random, shopper: _Shopper, product: ShelfProduct, moment: datetime) -> Iterator[EventRecord]:
    """A purchase, and what may follow it within the period: a return, or a rating."""
    shopper.owned.append(product)
    price = float(product.record.price or 0)
    amount = round(price * random.choices((1, 2, 3), (0.85, 0.11, 0.04))[0], 2)
    yield _event(shopper, "purchase", moment, product, value=amount)
    later = moment + timedelta(days=2 + int(random.random() * 12), minutes=random.randrange(600))
    if later >= PERIOD_ENDS:
        return
    is_returned = random.random() < 0.07
    if is_returned:
        yield _event(shopper, "return", later, product, value=amount)
    if random.random() < 0.4:
        stars = random.choice((1, 2, 2, 3)) if is_returned else random.choice((3, 4, 4, 5, 5, 5))
        yield _event(shopper, "rating", later + timedelta(minutes=5), product, value=float(stars))


def _clock(random: Random, moment: datetime) -> Iterator[datetime]:
    """The moments of one visit, a minute or so apart."""
    while True:
        yield moment
        moment += timedelta(seconds=20 + random.randrange(120))


def _event(
    shopper: _Shopper,
    kind: EventKind,
    moment: datetime,
    product: ShelfProduct | None = None,
    *,
    value: float | None = None,
    text: str | None = None,
) -> EventRecord:
    return EventRecord.model_validate(
        {
            "customer_id": shopper.record.customer_id,
            "product_id": product.record.product_id if product else None,
            "kind": kind,
            "value": value,
            "text": text,
            "occurred_at": moment,
        },
        context=UTC,
    )
