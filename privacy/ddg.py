"""Plans with discrete Gaussian noise on the devices."""

from functools import partial

from privacy import distributed_plans
from privacy.distributed import DistributedPlan

plan = partial(distributed_plans.plan, mechanism="ddg")

__all__ = ["DistributedPlan", "plan"]
