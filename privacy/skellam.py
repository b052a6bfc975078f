"""Plans with Skellam noise on the devices."""

from functools import partial

from privacy import distributed_plans
from privacy.distributed import DistributedPlan

plan = partial(distributed_plans.plan, mechanism="skellam")

__all__ = ["DistributedPlan", "plan"]
