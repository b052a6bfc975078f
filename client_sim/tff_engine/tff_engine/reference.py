"""What TensorFlow Federated and TensorFlow Privacy themselves compute, for the tests that hold the house's mechanisms against them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp
from tensorflow_federated.python.aggregators import discretization
from tensorflow_privacy.privacy.analysis import compute_dp_sgd_privacy_lib as dp_sgd

from tff_engine import aggregators, learning, processor

Arrays = Mapping[str, np.ndarray[Any, Any]]
Answer = tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]


class _OneHot(tfp.tree_aggregation.ValueGenerator):
    """The k-th draw is the k-th unit vector, so that noise shows which draws it is made of, and with which weights."""

    def __init__(self, length: int) -> None:
        self._length = length

    def initialize(self) -> Any:
        return tf.constant(0, tf.int32)

    def next(self, state: Any) -> Any:
        return tf.one_hot(state, self._length), state + 1


def tree_weights(facts: Mapping[str, Any], arrays: Arrays) -> Answer:
    """Weights of the node draws in each released prefix, float32, shape (steps, draws), of TF Privacy's residual tree query."""
    del arrays
    steps, length = facts["steps"], facts["draws"]
    spec = tf.TensorSpec([length], tf.float32)
    query = aggregators.tree_query({**facts, "clip_norm": 1.0}, spec, _OneHot(length))
    state, zero, rows = query.initial_global_state(), tf.zeros([length]), []
    for _ in range(steps):
        noise, state, _ = query.get_noised_result(zero, state)
        rows.append(noise.numpy())
    return {}, {"weights": np.cumsum(np.array(rows), axis=0)}


def quantiles(facts: Mapping[str, Any], arrays: Arrays) -> Answer:
    """Estimates after each round of TF Privacy's quantile estimator: `norms` float (rounds, devices) -> `estimates` (rounds,)."""
    norms = arrays["norms"]
    query = tfp.QuantileEstimatorQuery(
        initial_estimate=facts["initial"],
        target_quantile=facts["target"],
        learning_rate=facts["learning_rate"],
        below_estimate_stddev=facts["bit_noise"],
        expected_num_records=float(norms.shape[1]),
        geometric_update=True,
    )
    state, estimates = query.initial_global_state(), []
    for row in norms:
        parameters = query.derive_sample_params(state)
        sample = query.initial_sample_state()
        for norm in row:
            sample = query.accumulate_record(parameters, sample, tf.constant(norm, tf.float32))
        _, following, _ = query.get_noised_result(sample, state)
        estimates.append(float(query.derive_metrics(following)["estimate"]))
        state = query.initial_global_state() if facts.get("repeat_first") else following
    return {}, {"estimates": np.array(estimates)}


def adaptive_noise(facts: Mapping[str, Any], arrays: Arrays) -> Answer:
    """The vectors' noise multiplier that TFF takes when part of the noise goes to the bits."""
    del arrays
    value, bits = tff.aggregators.differential_privacy.adaptive_clip_noise_params(
        facts["noise_multiplier"], facts["clients"], facts["bit_noise"]
    )
    return {"value_noise_multiplier": value, "bit_noise": bits}, {}


def distributed_sums(facts: Mapping[str, Any], arrays: Arrays) -> Answer:
    """`repeats` sums of the clients' `vectors`, float32 (clients, d), through TFF's distributed DP factory: `sums` (repeats, d)."""
    vectors = np.asarray(arrays["vectors"], np.float32)
    learning.set_context(secure=True)
    process = aggregators.distributed_sum(facts["aggregation"]).create(tff.TensorType(np.float32, [vectors.shape[1]]))
    state, sums, costs, output = process.initialize(), [], [], None
    for _ in range(facts["repeats"]):
        began = processor.seconds()
        output = process.next(state, list(vectors))
        state = output.state
        sums.append(np.asarray(output.result))
        costs.append(processor.seconds() - began)
    measured = {} if output is None else learning.numbers(output.measurements)
    return {"measured": measured, "each_cpu_s": costs}, {"sums": np.array(sums)}


def inflated_norm(facts: Mapping[str, Any], arrays: Arrays) -> Answer:
    """TFF's bound on the norm after rounding, in units of the update."""
    del arrays
    found = discretization.inflated_l2_norm_bound(facts["norm"], 1.0 / facts["scale"], facts["beta"], facts["dimension"])
    return {"norm": float(found)}, {}


def tree_rho(facts: Mapping[str, Any], arrays: Arrays) -> Answer:
    """rho of one tree for each `[noise_multiplier, leaves, max_participations, minimum_separation]`."""
    del arrays
    return {"rho": [float(tfp.compute_zcdp_single_tree(z, t, k, s)) for z, t, k, s in facts["settings"]]}, {}


def restarted_tree_rho(facts: Mapping[str, Any], arrays: Arrays) -> Answer:
    """rho of restarted trees, one participation a tree, for each `[noise_multiplier, leaves of each tree]`."""
    del arrays
    return {"rho": [float(tfp.compute_rdp_tree_restart(z, steps, 2.0)) / 2.0 for z, steps in facts["settings"]]}, {}


def dp_sgd_epsilons(facts: Mapping[str, Any], arrays: Arrays) -> Answer:
    """Epsilon for each `[examples, batch, noise_multiplier, epochs, delta]`, Poisson sampling, by TF Privacy's accountant."""
    del arrays
    kind = dp_sgd.AccountantType(facts["accountant"])
    return {"epsilon": [_epsilon(kind, *setting) for setting in facts["settings"]]}, {}


def _epsilon(kind: Any, examples: int, batch: int, noise: float, epochs: float, delta: float) -> float:
    private = dp_sgd._compute_dp_sgd_example_privacy  # noqa: SLF001 the public one gives prose
    return float(private(epochs, noise, delta, False, batch / examples, kind))


def client_data(facts: Mapping[str, Any], arrays: Arrays) -> Answer:
    """The clients and examples that TFF itself reads from a file of SQLite client data."""
    del arrays
    kinds = {"text": tf.string, "int": tf.int64, "float": tf.float32}
    spec = {name: tf.TensorSpec(shape, kinds[kind]) for name, (kind, shape) in facts["features"].items()}
    data = tff.simulation.datasets.load_and_parse_sql_client_data(str(Path(facts["path"])), spec)
    found = {
        client: [
            {name: _plain(value) for name, value in example.items()} for example in data.create_tf_dataset_for_client(client)
        ]
        for client in data.client_ids
    }
    return {"clients": found}, {}


def _plain(value: Any) -> Any:
    array = value.numpy()
    return array.decode() if isinstance(array, bytes) else array.tolist()


OPERATIONS: Sequence[Any] = (
    tree_weights,
    quantiles,
    adaptive_noise,
    distributed_sums,
    inflated_norm,
    tree_rho,
    restarted_tree_rho,
    dp_sgd_epsilons,
    client_data,
)
