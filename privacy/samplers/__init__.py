"""Integer noise from keystreams, exact to a stated statistical distance."""

from privacy.samplers.laws import Sampler, discrete_gaussian, rounded_gaussian, skellam
from privacy.samplers.wide import DISTANCE_LOG2

__all__ = ["DISTANCE_LOG2", "Sampler", "discrete_gaussian", "rounded_gaussian", "skellam"]
