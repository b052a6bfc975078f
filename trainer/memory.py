"""How much memory training may take, and how many devices side by side that is."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

from typing import Any

import jax

SHARE_OF_ACCELERATOR = 0.75
"""Of an accelerator's memory that a step may take; the rest is for compiled programs and what the backend keeps free."""
HELD_BYTES = 512 << 20
"""Updates that wait in this process until they are asked for take at most this, or one chunk."""
FEATURIZED_BYTES = 32 << 20
"""What models made of examples that their loader keeps in memory is kept, too, up to this."""
_COPIES = 16
"""Times its parameters that a lane is taken to need where the model's arrangement does not say: parameters, gradients, activations."""
_ROWS = 16
"""Rows of the batch for which arrangements say what a lane takes."""


def accelerator_bytes() -> int | None:
    """What a step may take on each accelerator, None where the backend does not say what it has."""
    stats: dict[str, Any] = jax.devices()[0].memory_stats() or {}
    limit = stats.get("bytes_limit")
    return None if limit is None else int(SHARE_OF_ACCELERATOR * limit)


def lanes_within(wanted: int, budget_bytes: int | None, *, lane_mb: int, num_parameters: int, batch_size: int) -> int:
    """How many of `wanted` devices fit side by side, at least 1.

    Args:
      budget_bytes: None bounds nothing.
      lane_mb: what a device takes with batches of 16, in MiB; 0 where nobody measured it.

    >>> lanes_within(128, 1 << 30, lane_mb=32, num_parameters=1_412_250, batch_size=16)
    32
    >>> lanes_within(128, 1 << 30, lane_mb=32, num_parameters=1_412_250, batch_size=64)
    8
    """
    if budget_bytes is None:
        return wanted
    lane_bytes = max(1, (lane_mb << 20) * batch_size // _ROWS) if lane_mb else _COPIES * 4 * num_parameters
    return max(1, min(wanted, budget_bytes // lane_bytes))


def chunks_held(wanted: int, *, lanes: int, num_parameters: int) -> int:
    """How many of `wanted` chunks of `lanes` float32 updates may wait at once, at least 1.

    >>> chunks_held(8, lanes=5, num_parameters=54_270), chunks_held(8, lanes=128, num_parameters=1_412_250)
    (8, 1)
    """
    return max(1, min(wanted, HELD_BYTES // (lanes * 4 * num_parameters)))
