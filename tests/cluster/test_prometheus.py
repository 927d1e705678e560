"""A row as Prometheus scrapes it from a real Ray node, and the dashboard that shows it."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from pathlib import Path

import pytest

from cluster.metrics import rollout_metrics
from learner.config import GRPOConfigSection
from rollout.staleness import bound

DASHBOARD = Path(__file__).parents[2] / "cluster" / "grafana" / "training.json"
# What the loop and the learner add to the rollout's metrics.
ADDED = (
    *("step", "tasks/quarantined", "loss", "grad_norm", "lr", "updates/skipped", "entropy", "mismatch/mean_abs"),
    *("mismatch/kl", "restarts/engines", "restarts/runners", "memory/driver_mb", "memory/engine_mb"),
    *("memory/learner_mb", "cache/prefix_hit_rate", "time/rollout", "time/learn", "time/sync", "time/checkpoint"),
    *("time/evaluate", "speed/output_tokens_per_s", "speed/train_tokens_per_s"),
)


def shown() -> set[str]:
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return {name for query in queries for name in re.findall(r"ray_(atommem_\w+)", query)}


def test_the_dashboard_shows_metrics_that_there_are() -> None:
    from cluster.prometheus import metric_name

    _, age = bound([], version=0, max_staleness=0)
    keys = {*rollout_metrics([], [], age, GRPOConfigSection()), *ADDED}
    assert len(shown()) > 25 and shown() <= {metric_name(key) for key in keys}


def test_panels_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24


@pytest.mark.stack
def test_prometheus_sees_the_values(local_ray: None) -> None:
    import ray

    from cluster.prometheus import RayMetrics

    RayMetrics("exported").set({"reward/mean": 0.25, "kl": float("nan")})
    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    wanted = re.compile(r'^ray_atommem_reward_mean\{.*run="exported".*\} 0\.25$', re.M)
    deadline = time.monotonic() + 120
    while not wanted.search(page := urllib.request.urlopen(address, timeout=30).read().decode()):
        assert time.monotonic() < deadline, page[-500:]
        time.sleep(1)
    assert "ray_atommem_kl" not in page
