"""Room for a run on a live cluster: waited for, and refused with everything asked and everything free."""

from __future__ import annotations

import time

import ray
from ray._private.state import available_resources_per_node
from ray.util import get_current_placement_group
from ray.util.placement_group import PlacementGroup, placement_group

from cluster.config import RunConfig
from cluster.placement import Nodes, bundles_of, described, listed, unplaced
from rollout.errors import RolloutError

POLL_S = 1.0


def nodes_now() -> Nodes:
    """What every live node has free; within a Tune trial, which has its share reserved, what it has in all."""
    alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    reserved = get_current_placement_group() is not None
    free = {} if reserved else available_resources_per_node()
    return {
        node["NodeManagerAddress"] + ":" + str(node["NodeManagerPort"]): free.get(node_id, node["Resources"])
        for node_id, node in alive.items()
    }


def await_resources(run: RunConfig, with_learner: bool) -> None:
    """Wait until every actor of the run finds a node: nodes may still be joining, other runs be ending.

    Raises RolloutError, naming each bundle and each node's free resources, after `rollout.engine.start_timeout_s`.
    """
    bundles, timeout = bundles_of(run, with_learner), run.rollout.engine.start_timeout_s
    deadline = time.monotonic() + timeout
    while lost := unplaced(bundles, nodes := nodes_now()):
        if time.monotonic() > deadline:
            raise RolloutError(
                f"no room for {listed(lost)} after rollout.engine.start_timeout_s = {timeout:g} s; the run asks for "
                f"{listed(bundles)}; free on {described(nodes)}"
            )
        time.sleep(POLL_S)


def reserve_pairs(run: RunConfig) -> PlacementGroup | None:
    """Colocated engines and learners: one bundle for both of a pair; None when they have devices of their own."""
    engine, learner = run.rollout.engine, run.learner
    if not engine.colocate:
        return None
    pair = {"CPU": engine.num_cpus + learner.num_cpus, "GPU": engine.num_gpus + learner.num_gpus}
    return placement_group([{name: amount for name, amount in pair.items() if amount}] * engine.count, strategy="PACK")
