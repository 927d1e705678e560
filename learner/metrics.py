"""From the workers' sums to the metrics of a batch."""

from __future__ import annotations

from collections.abc import Sequence

_PER_KNOWN = ("mismatch/mean_abs", "mismatch/kl")  # over the tokens whose engine log-probability is known


def batch_metrics(ranks: Sequence[dict[str, float]]) -> dict[str, float]:
    """One update's metrics from every rank's sums (learner/worker.py)."""
    first = ranks[0]
    sums = {key: sum(rank[key] for rank in ranks) for key in first}
    metrics = {
        "tokens": sums["tokens"],
        "loss": sums["loss"],
        "grad_norm": first["grad_norm"],
        "lr": first["lr"],
        "updates/skipped": first["skipped"],
        "memory/learner_mb": sums["memory_mb"],
    }
    for key in ("entropy", "kl", "clip/low", "clip/high"):
        if key in sums:
            metrics[key] = sums[key] / max(1.0, sums["tokens"])
    if known := sums.get("mismatch/tokens"):
        metrics |= {key: sums[key] / known for key in _PER_KNOWN}
    return metrics


def mean_metrics(updates: Sequence[dict[str, float]]) -> dict[str, float]:
    """Metrics of several updates on one batch: means; tokens and skipped updates are summed."""
    merged = {key: sum(update[key] for update in updates) / len(updates) for key in updates[-1]}
    for key in ("tokens", "updates/skipped"):
        merged[key] = sum(update[key] for update in updates)
    return merged
