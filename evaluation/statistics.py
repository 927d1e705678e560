"""How sure a mean is, and whether a difference is luck. Questions of one task are not independent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% bounds; the bounds are None where a single task says nothing about the spread."""

    mean: float
    low: float | None
    high: float | None

    def apart(self, other: Interval) -> bool:
        """True when both intervals are known and do not touch."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return False
        return self.high < other.low or other.high < self.low


def clustered_interval(
    values: Sequence[float],
    clusters: Sequence[str],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Mean of ``values`` [n] with a percentile bootstrap interval that redraws whole clusters (tasks).

    The statistic of a redraw is sum(values) / count over the drawn clusters (the ratio estimator), so that
    every question weighs the same. Deterministic in ``seed``. Raises ValueError when empty or unequally long.
    """
    sums, counts = _by_cluster(values, clusters)
    mean = float(sums.sum() / counts.sum())
    if len(sums) < 2:
        return Interval(mean, None, None)
    drawn = stats.bootstrap(
        (sums, counts),
        lambda total, count, axis: total.sum(axis) / count.sum(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=confidence,
        n_resamples=resamples,
        batch=1_000,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(drawn.low), float(drawn.high))


def paired_permutation_test(
    before: Sequence[float],
    after: Sequence[float],
    clusters: Sequence[str],
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p-value of equal means for paired values [n], swapping before and after in whole clusters.

    Exact when the 2^clusters swaps are at most ``resamples``, else a random sample of them.
    """
    before_sums, _ = _by_cluster(before, clusters)
    after_sums, _ = _by_cluster(after, clusters)
    if np.array_equal(before_sums, after_sums):
        return 1.0
    test = stats.permutation_test(
        (after_sums, before_sums),
        lambda x, y, axis: (x - y).mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=1_000,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def tasks_needed(
    before: Sequence[float],
    after: Sequence[float],
    clusters: Sequence[str],
    *,
    difference: float = 0.02,
    power: float = 0.8,
    confidence: float = 0.95,
) -> int | None:
    """Tasks at which a paired difference of ``difference`` (2 points) would be seen with probability ``power``.

    n = ((z_{1 - (1 - confidence) / 2} + z_power) * s / difference)^2 for a two-sided test, where s is the standard
    deviation over tasks of the linearised ratio estimator, (sum_i - mean * count_i) / mean count. None for one task,
    and where no task differs from another: there is no spread to go by.
    """
    sums, counts = _by_cluster([b - a for a, b in zip(before, after, strict=True)], clusters)
    if len(sums) < 2:
        return None
    residuals = (sums - sums.sum() / counts.sum() * counts) / counts.mean()
    if not residuals.any():
        return None
    z = stats.norm.ppf(1 - (1 - confidence) / 2) + stats.norm.ppf(power)
    return max(2, int(np.ceil((z * residuals.std(ddof=1) / difference) ** 2)))


def _by_cluster(values: Sequence[float], clusters: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and count of the values of each cluster: two float64 arrays [clusters]."""
    if not len(values) or len(values) != len(clusters):
        raise ValueError(
            f"{len(values)} values with {len(clusters)} cluster names: need equally many, at least one"
        )
    _, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    return np.bincount(index, weights=np.asarray(values, dtype=float)), np.bincount(index).astype(float)
