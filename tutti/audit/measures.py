"""From scores to what an audit says of one arm: exposures by cell, tests, ratios against the control, epsilon from below."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client_sim.canaries import Canaries, Canary
from privacy.audit import (
    Certainty,
    Exposure,
    Finding,
    LowerBound,
    Scope,
    attack,
    drop_p_value,
    estimate,
    exposures,
    median_rank_ratio,
    permutation_p_value,
    spearman,
    trend_p_value,
)
from privacy.audit.skew_normal import SkewNormal
from tutti.audit.scores import Scores

DEFAULT_DELTA = 1e-5
"""For an arm whose task names no delta: it claims nothing, but its leakage is still measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GridMeasures:
    """Exposures of the grid's canaries under one model, in the canaries' order."""

    canaries: tuple[Canary, ...] = field(repr=False)
    found: tuple[Exposure, ...] = field(repr=False)
    extracted: NDArray[np.bool_] | None = field(repr=False)
    law: SkewNormal
    """Of the first canary's references, the shared ones where they are shared."""

    def of(self, *, inserted: bool) -> NDArray[np.float64]:
        """Extrapolated exposures of the inserted or of the held-out canaries, float64, shape (n,), in bits.

        Tests use these: sampling cannot tell canaries of rank 1 apart.
        """
        return np.array(
            [
                one.extrapolated_bits
                for canary, one in zip(self.canaries, self.found, strict=True)
                if canary.inserted == inserted
            ]
        )

    def ranks(self, *, inserted: bool) -> NDArray[np.int64]:
        """Ranks of the inserted or of the held-out canaries, int64, shape (n,)."""
        rows = zip(self.canaries, self.found, strict=True)
        return np.array([one.rank for canary, one in rows if canary.inserted == inserted], np.int64)


def grid_measures(canaries: Canaries, scores: Scores) -> GridMeasures:
    """Exposures of every canary of the grid among its references."""
    if len(scores.references) == 1:
        found, law = exposures(scores.grid, scores.references[0])
    else:
        each = [exposures(scores.grid[i : i + 1], scores.references[i]) for i in range(len(scores.grid))]
        found, law = [one[0][0] for one in each], each[0][1]
    return GridMeasures(canaries=canaries.grid, found=tuple(found), extracted=scores.extracted, law=law)


def grid_json(measured: GridMeasures, control: GridMeasures | None, *, seed: int) -> dict[str, Any]:
    """What the grid says of one arm, and of it against the control."""
    inserted, held_out = measured.of(inserted=True), measured.of(inserted=False)
    doses = [float(canary.devices * canary.copies) for canary in measured.canaries if canary.inserted]
    ranks = measured.ranks(inserted=True)
    return {
        "references": measured.found[0].references,
        "median_rank": float(np.median(ranks)),
        "median_rank_held_out": float(np.median(measured.ranks(inserted=False))),
        "mean_exposure_bits": float(np.mean([one.bits for one in _of(measured, inserted=True)])),
        "mean_exposure_bits_held_out": float(np.mean([one.bits for one in _of(measured, inserted=False)])),
        "censored": sum(one.censored for one in _of(measured, inserted=True)),
        "inserted": len(inserted),
        "extracted": None if measured.extracted is None else int(measured.extracted.sum()),
        "permutation_p_value": permutation_p_value(inserted, held_out, seed=seed),
        "trend": _trend(doses, inserted, seed=seed),
        "fit_distance": measured.law.distance,
        "rank_ratio": None if control is None else _ratio(control, measured, seed=seed),
        "drop": None if control is None else _drop(control, measured, seed=seed),
        "cells": cells(measured),
        "canaries": [_canary_json(measured, row) for row in range(len(measured.canaries))],
    }


def cells(measured: GridMeasures) -> list[dict[str, Any]]:
    """A row for each cell of the grid, the least shared first."""
    keys = sorted({(canary.devices, canary.copies) for canary in measured.canaries})
    return [_cell(measured, devices, copies) for devices, copies in keys]


def coin_bound(
    canaries: Canaries, before: NDArray[np.float64], after: NDArray[np.float64], *, delta: float, level: float
) -> LowerBound:
    """Epsilon from below by the coins' canaries: the score is how much likelier training made each."""
    included = np.array([coin.included for coin in canaries.coins], np.bool_)
    return attack(after - before, included, delta=delta, level=level)


def bound_finding(measure: str, found: LowerBound, *, released: str, devices: int) -> Finding:
    """A lower bound as the verdict takes it."""
    scope = Scope(delta=found.delta, released=released, devices=devices)
    return Finding(measure=measure, certainty=Certainty.BOUND, scope=scope, level=found.level, epsilon=found.epsilon)


def estimate_finding(
    measure: str,
    included: NDArray[np.bool_],
    sent: NDArray[np.float64],
    unsent: NDArray[np.float64],
    *,
    delta: float,
    released: str,
) -> tuple[Finding, Mapping[str, Any]]:
    """The estimate from random directions as the verdict takes it, and its interval.

    It warns if even the low end of its interval lies above the claim.
    """
    found = estimate(sent[included], unsent, delta=delta)
    scope = Scope(delta=delta, released=released)
    finding = Finding(measure=measure, certainty=Certainty.ESTIMATE, scope=scope, level=1 - found.level, epsilon=found.low)
    return finding, {"epsilon": found.epsilon, "low": found.low, "high": found.high, "level": found.level}


def _of(measured: GridMeasures, *, inserted: bool) -> list[Exposure]:
    rows = zip(measured.canaries, measured.found, strict=True)
    return [one for canary, one in rows if canary.inserted == inserted]


def _trend(doses: list[float], inserted: NDArray[np.float64], *, seed: int) -> dict[str, float] | None:
    if len(set(doses)) < 2:
        return None
    return {"spearman": spearman(doses, inserted), "p_value": trend_p_value(doses, inserted, seed=seed)}


def _ratio(control: GridMeasures, measured: GridMeasures, *, seed: int) -> dict[str, Any]:
    found = median_rank_ratio(control.ranks(inserted=True), measured.ranks(inserted=True), seed=seed)
    return {"ratio": found.ratio, "low": found.low, "high": found.high, "level": found.level}


def _drop(control: GridMeasures, measured: GridMeasures, *, seed: int) -> dict[str, float]:
    before, after = control.of(inserted=True), measured.of(inserted=True)
    return {"bits": float(np.mean(before - after)), "p_value": drop_p_value(before, after, seed=seed)}


def _cell(measured: GridMeasures, devices: int, copies: int) -> dict[str, Any]:
    rows = [
        (canary, one, row)
        for row, (canary, one) in enumerate(zip(measured.canaries, measured.found, strict=True))
        if (canary.devices, canary.copies) == (devices, copies)
    ]
    inserted = [(one, row) for canary, one, row in rows if canary.inserted]
    held_out = [one for canary, one, _ in rows if not canary.inserted]
    return {
        "devices": devices,
        "copies": copies,
        "inserted": len(inserted),
        "exposure_bits": float(np.median([one.bits for one, _ in inserted])),
        "extrapolated_bits": float(np.median([one.extrapolated_bits for one, _ in inserted])),
        "median_rank": float(np.median([one.rank for one, _ in inserted])),
        "censored": sum(one.censored for one, _ in inserted),
        "extracted": None if measured.extracted is None else int(sum(measured.extracted[row] for _, row in inserted)),
        "held_out_bits": float(np.median([one.bits for one in held_out])),
    }


def _canary_json(measured: GridMeasures, row: int) -> dict[str, Any]:
    canary, one = measured.canaries[row], measured.found[row]
    return {
        "name": canary.name,
        "devices": canary.devices,
        "copies": canary.copies,
        "inserted": canary.inserted,
        "rank": one.rank,
        "bits": one.bits,
        "extrapolated_bits": one.extrapolated_bits,
        "censored": one.censored,
        "extracted": None if measured.extracted is None else bool(measured.extracted[row]),
    }
