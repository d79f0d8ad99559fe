"""What people order of a run while it goes on: written down, heard by every process, obeyed within seconds."""

from pipeline.orders.ending import is_ending, take_no_more_orders
from pipeline.orders.giving import Given, give_order
from pipeline.orders.hands import Hands
from pipeline.orders.hearing import open_hands
from pipeline.orders.standing import Order, StandingOrders, read_standing
from pipeline.orders.watching import Heard, read_heard

__all__ = [
    "Given",
    "Hands",
    "Heard",
    "Order",
    "StandingOrders",
    "give_order",
    "is_ending",
    "open_hands",
    "read_heard",
    "read_standing",
    "take_no_more_orders",
]
