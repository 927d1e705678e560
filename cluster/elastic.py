"""Runners join while a run goes on, where nodes have room: up to `rollout.max_runners`. Nodes leave, some with notice.

What leaves with its node needs no code here: the collector plays its episodes again elsewhere, and Ray starts the
runner anew where there is room. Engines join by themselves: those beyond `rollout.engine.count` are pending actors.
"""

from __future__ import annotations

from datetime import datetime

from ray._private.state import state
from ray.autoscaler.sdk import request_resources

from cluster.config import RunConfig
from cluster.placement import SLACK, Nodes
from cluster.resources import nodes_now
from cluster.rollouts import RolloutSide


def room_for_runners(run: RunConfig, running: int, nodes: Nodes) -> int:
    """How many runners may be added: what `max_runners` allows and the nodes' free CPUs hold."""
    most, cpus = run.rollout.max_runners or run.rollout.runners, run.rollout.runner_cpus
    if cpus <= 0:
        return max(0, most - running)
    room = sum(int((has.get("CPU", 0.0) + SLACK) / cpus) for has in nodes.values())
    return max(0, min(most - running, room))


def grow(run: RunConfig, side: RolloutSide) -> int:
    """Add runners where there is room now; returns how many. None while an engine is down: it needs its place back."""
    running = side.runners.num_remote_env_runners()
    if (run.rollout.max_runners or 0) <= running or side.watch.up < run.rollout.engine.count:
        return 0
    added = room_for_runners(run, running, nodes_now())
    if added:
        side.runners.add_workers(added)
    return added


def ask_autoscaler(run: RunConfig) -> None:
    """Tell an autoscaler, if the cluster has one, what the run could use: nodes for all runners it may have."""
    if run.rollout.max_runners and run.rollout.runner_cpus > 0:
        request_resources(bundles=[{"CPU": run.rollout.runner_cpus}] * run.rollout.max_runners)


def leaving_nodes() -> dict[str, str]:
    """Nodes that were told to leave (a spot instance, a scale-down, `ray drain-node`): by id, and when they go."""
    return {
        node: f"at {datetime.fromtimestamp(deadline_ms / 1000):%H:%M:%S}" if deadline_ms else "at any moment"
        for node, deadline_ms in state.get_draining_nodes().items()
    }
