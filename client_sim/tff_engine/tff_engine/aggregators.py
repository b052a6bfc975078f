"""From a task's mechanism to TFF's aggregation factory."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp


def mean_factory(asked: Mapping[str, Any], specs: Any) -> Any:
    """TFF's aggregator of the updates' mean.

    Args:
      asked: `kind` is `none`, `weighted`, `tree`, `tree_adaptive`, `gaussian`, `gaussian_adaptive`, `distributed` or `secure`; the rest are
        that kind's numbers.
      specs: `tf.TensorSpec` of each parameter, in a tuple.

    Raises:
      ValueError: for another kind.
    """
    kind = asked["kind"]
    if kind == "none":
        return _clipped(asked, tff.aggregators.UnweightedMeanFactory())
    if kind == "weighted":
        return _clipped(asked, tff.aggregators.MeanFactory())
    if kind == "tree":
        return _tree(asked, specs)
    if kind == "tree_adaptive":
        return tff.aggregators.DifferentiallyPrivateFactory(_adaptive_tree(asked, specs))
    if kind == "gaussian":
        return tff.aggregators.DifferentiallyPrivateFactory.gaussian_fixed(
            noise_multiplier=asked["noise_multiplier"], clients_per_round=float(asked["clients"]), clip=asked["clip_norm"]
        )
    if kind == "gaussian_adaptive":
        return tff.aggregators.DifferentiallyPrivateFactory.gaussian_adaptive(
            noise_multiplier=asked["noise_multiplier"],
            clients_per_round=float(asked["clients"]),
            initial_l2_norm_clip=asked["clip_norm"],
            target_unclipped_quantile=asked["target_quantile"],
            learning_rate=asked["quantile_learning_rate"],
            clipped_count_stddev=asked["bit_noise"],
        )
    if kind in ("distributed", "secure"):
        return _secure_mean(asked)
    raise ValueError(f"no aggregator of this engine is called {kind!r}")


def distributed_sum(asked: Mapping[str, Any]) -> Any:
    """TFF's distributed DP: clip, rotate, scale, round, noise, modular sum."""
    return tff.aggregators.distributed_dp.DistributedDpSumFactory(
        noise_multiplier=asked["noise_multiplier"],
        expected_clients_per_round=asked["clients"],
        bits=asked["bits"],
        l2_clip=asked["clip_norm"],
        modclip_prob=asked.get("modclip_probability", 1e-4),
        beta=asked["beta"],
        mechanism={"ddg": "distributed_dgauss", "skellam": "distributed_skellam"}[asked["mechanism"]],
        rotation_type="hd",
    )


def _secure_mean(asked: Mapping[str, Any]) -> Any:
    if asked["kind"] == "distributed":
        summed = distributed_sum(asked)
    else:
        bound = asked["clip_norm"]
        summed = tff.aggregators.clipping_factory(
            bound,
            tff.aggregators.SecureSumFactory(upper_bound_threshold=bound, lower_bound_threshold=-bound),
            clipped_count_sum_factory=tff.aggregators.SecureSumFactory(upper_bound_threshold=1, lower_bound_threshold=0),
        )
    return tff.aggregators.UnweightedMeanFactory(
        value_sum_factory=summed,
        count_sum_factory=tff.aggregators.SecureSumFactory(upper_bound_threshold=1, lower_bound_threshold=0),
    )


def tree_query(asked: Mapping[str, Any], specs: Any, generator: Any) -> Any:
    """TF Privacy's tree aggregation of a sum, with what is drawn at the nodes left open."""

    def clip(record: Any, norm: Any) -> Any:
        return tf.clip_by_global_norm(record, norm)[0]

    query = tfp.TreeResidualSumQuery(
        record_specs=specs,
        noise_generator=generator,
        clip_fn=clip,
        clip_value=asked["clip_norm"],
        use_efficient=asked["honaker"],
    )
    return _restarted(query, asked["restart_every"])


def _tree(asked: Mapping[str, Any], specs: Any) -> Any:
    generator = tfp.tree_aggregation.GaussianNoiseGenerator(
        noise_std=asked["clip_norm"] * asked["noise_multiplier"], specs=specs, seed=asked["noise_seed"]
    )
    summed = tree_query(asked, specs, generator)
    return tff.aggregators.DifferentiallyPrivateFactory(tfp.NormalizedQuery(summed, denominator=float(asked["clients"])))


def _adaptive_tree(asked: Mapping[str, Any], specs: Any) -> Any:
    query = tfp.QAdaClipTreeResSumQuery(
        asked["clip_norm"],
        asked["value_noise_multiplier"],
        specs,
        asked["target_quantile"],
        asked["quantile_learning_rate"],
        asked["bit_noise"],
        float(asked["clients"]),
        geometric_update=True,
        noise_seed=asked["noise_seed"],
    )
    return tfp.NormalizedQuery(_restarted(query, asked["restart_every"]), denominator=float(asked["clients"]))


def _restarted(query: Any, every: int | None) -> Any:
    if every is None:
        return query
    return tfp.RestartQuery(query, tfp.restart_query.PeriodicRoundRestartIndicator(period=every))


def _clipped(asked: Mapping[str, Any], inner: Any) -> Any:
    return inner if asked.get("clip_norm") is None else tff.aggregators.clipping_factory(asked["clip_norm"], inner)
