"""jax-privacy behind one adapter: the strategies that are found by optimisation.

The only module that imports jax-privacy, when it is asked to. What it returns is turned into fixed point and priced by our own
sensitivity, so that a poor optimum costs accuracy and never privacy.
"""

from functools import lru_cache


@lru_cache(maxsize=64)
def optimize_blt(
    *, rounds: int, minimum_separation: int, max_participations: int, buffers: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Decays and scales of the BLT with the least root-mean-square prefix error for the schedule; takes about ten seconds.

    Args:
      minimum_separation: rounds strictly between two participations; jax-privacy counts one more.
      buffers: 1 to 8.

    Raises:
      ValueError: for a number of buffers outside 1 to 8.

    Source: arXiv:2408.08868v2 (McMahan, Xu, Zhang).
    """
    if not 1 <= buffers <= 8:
        raise ValueError(f"buffers must lie in [1, 8], not {buffers}")
    import jax
    from jax_privacy.matrix_factorization import buffered_toeplitz

    with jax.enable_x64():
        found = buffered_toeplitz.optimize(
            n=rounds,
            min_sep=minimum_separation + 1,
            max_participations=max_participations,
            error="mean",
            min_buffers=buffers,
            max_buffers=buffers,
        )
        return tuple(map(float, found.buf_decay)), tuple(map(float, found.output_scale))
