"""Integer noise from keystreams, exact to a stated statistical distance."""

from privacy.samplers.laws import Sampler, discrete_gaussian, rounded_gaussian, skellam

__all__ = ["Sampler", "discrete_gaussian", "rounded_gaussian", "skellam"]
