"""A process on one core computes in the thread that calls, and gets the same bits; one in which JAX has begun is left alone."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, numpy as np
from trainer import DeviceExamples, LocalTrainer, one_core
from trainer.models import get
if sys.argv[1] == "settled":
    one_core.settle()
model, generator = get("mlp"), np.random.Generator(np.random.Philox(key=1))
x, y = generator.random((20, 784), dtype=np.float32), generator.integers(0, 62, 20).astype(np.int32)
delta, _ = LocalTrainer(model=model, batch_size=10, learning_rate=0.1).train(model.init(0), DeviceExamples({"x": x, "y": y}), 1)
before = jax.config.values["jax_cpu_enable_async_dispatch"]
one_core.settle()
assert jax.config.values["jax_cpu_enable_async_dispatch"] == before  # JAX has begun
import hashlib
print(before, hashlib.sha256(delta.tobytes()).hexdigest())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")
def test_a_settled_process_gives_the_same_bits_as_another() -> None:
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    said = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True, env=environment
        ).stdout.split()
        for how in ("settled", "as it was")
    ]
    assert [dispatch for dispatch, _ in said] == ["False", "True"]
    assert said[0][1] == said[1][1]
