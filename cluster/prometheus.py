"""An iteration's row as Ray metrics, which every Ray node offers to Prometheus; cluster/grafana/ has the dashboard."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from ray.util.metrics import Gauge

PREFIX = "atommem_"


def metric_name(key: str) -> str:
    """`time/rollout` as Prometheus takes it: `atommem_time_rollout` (Ray puts `ray_` before it)."""
    return PREFIX + re.sub(r"\W", "_", key)


class RayMetrics:
    """Gauges by key, made when first set, with the run's name as their tag."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._gauges: dict[str, Gauge] = {}

    def set(self, values: Mapping[str, float]) -> None:
        """Show these values from now on; what is not finite keeps its last one."""
        for key, value in values.items():
            if not math.isfinite(value):
                continue
            if key not in self._gauges:
                self._gauges[key] = Gauge(metric_name(key), description=key, tag_keys=("run",))
                self._gauges[key].set_default_tags({"run": self._run})
            self._gauges[key].set(value)
