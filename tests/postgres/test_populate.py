"""The demo shop in a real database: complete, the same the second time, and beside a shop's own rows."""

from pipeline.database import open_connection
from pipeline.demo_shop import populate


def test_a_second_populate_changes_nothing(database_url: str) -> None:
    with open_connection(database_url) as connection:
        first = populate(connection)
    with open_connection(database_url) as connection:
        second = populate(connection)
        counts = connection.execute(
            "SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM products), (SELECT count(*) FROM events)"
        ).fetchone()
    assert (first.customers, first.products) == (201, 2_010)
    assert first.inserted == first.customers + first.products + first.events
    assert second.inserted == 0
    assert counts == (first.customers, first.products, first.events)


def test_rows_that_are_not_the_demos_stay_as_they_are(database_url: str) -> None:
    with open_connection(database_url) as connection:
        connection.execute("INSERT INTO products (product_id, name, price) VALUES ('1', 'A real lamp', 5)")
        connection.execute("INSERT INTO customers (customer_id, attributes) VALUES ('real', '{\"a\": 1}')")
        report = populate(connection)
        lamp = connection.execute("SELECT name, brand FROM products WHERE product_id = '1'").fetchone()
        real = connection.execute("SELECT attributes FROM customers WHERE customer_id = 'real'").fetchone()
    assert report.inserted == report.customers + report.products + report.events - 1
    assert lamp == ("A real lamp", None)
    assert real == ({"a": 1},)


def test_rows_of_the_demo_that_were_lost_come_back(database_url: str) -> None:
    with open_connection(database_url, role=None) as connection:
        populate(connection)
        connection.execute("DELETE FROM events WHERE kind = 'search'")
        lost = connection.execute("DELETE FROM products WHERE product_id = '7' RETURNING name").fetchone()
        report = populate(connection)
        found = connection.execute("SELECT name FROM products WHERE product_id = '7'").fetchone()
    assert report.inserted > 1_000
    assert found == lost


def test_the_articles_customer_is_read_as_the_article_tells_him(database_url: str) -> None:
    with open_connection(database_url) as connection:
        populate(connection)
        row = connection.execute("SELECT time_zone, attributes FROM customers WHERE customer_id = '12345'").fetchone()
    assert row == (
        "America/New_York",
        {
            "loyalty_status": "Gold Member",
            "average_monthly_spend": 500,
            "preferred_brands": ["Apple", "AllBirds", "Bench"],
            "preferred_shopping_times": "Weekend evenings",
            "candidates": [str(number) for number in range(1, 11)],
        },
    )
