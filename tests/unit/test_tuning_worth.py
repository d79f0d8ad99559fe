"""What a recipe is worth to tuning: all that it finds, unless it finds less of what is new to the customers."""

from math import isnan, nan

import numpy as np

from pipeline.evaluating.tuning import Share, share_found


def test_the_share_of_new_purchases_is_over_the_customers_who_have_some() -> None:
    found = share_found(np.array([[0.5, nan], [1.0, 0.25], [0.0, 0.75]]))
    assert found == Share(of_all=0.5, of_new=0.5)


def test_where_nobody_purchased_anything_new_all_purchases_alone_count() -> None:
    found = share_found(np.array([[0.5, nan]]))
    assert isnan(found.of_new)
    assert found.worth_beside(Share(0.4, nan)) == 0.5


def test_a_recipe_that_finds_less_of_what_is_new_is_worth_nothing() -> None:
    before = Share(of_all=0.4, of_new=0.3)
    assert Share(of_all=0.6, of_new=0.29).worth_beside(before) == 0
    assert Share(of_all=0.6, of_new=0.3).worth_beside(before) == 0.6
    assert before.worth_beside(before) == 0.4
