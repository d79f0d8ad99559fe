"""Foretells a night that has not begun: whom it would ask for, what that costs and how long it takes. Asks nobody."""

from pipeline.planning.night_plan import BudgetCheck, ModelPlan, NightPlan, Sample
from pipeline.planning.planning import plan_night
from pipeline.planning.wishing import Wish, wish_of

__all__ = ["BudgetCheck", "ModelPlan", "NightPlan", "Sample", "Wish", "plan_night", "wish_of"]
