"""Tells a node to leave and prints what is seen of that: a program, for it has a Ray of its own (test_elastic.py)."""

from __future__ import annotations

import time
from collections.abc import Callable

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.elastic import leaving_nodes
from tests.cluster.nodes import raylets

PREEMPTION = 2  # of Ray's DrainNodeReason


def main() -> None:
    """Raises AssertionError when the notice is not seen, or before there is one."""
    deadline = time.time() + 600
    with raylets(1, cpus=1, head_cpus=1) as nodes:
        ray.init(address=nodes.gcs)
        try:
            assert leaving_nodes() == {}
            worker = nodes.cluster.list_all_nodes()[1].node_id
            client = ray._private.worker.global_worker.gcs_client
            there = NodeAffinitySchedulingStrategy(worker, soft=False)
            guest = ray.remote(num_cpus=1)(Guest).options(scheduling_strategy=there).remote()
            ray.get(guest.alive.remote())  # an idle node would be gone at once
            accepted, reason = client.drain_node(worker, PREEMPTION, "spot", int(deadline * 1000))
            assert accepted, reason
            await_change(leaving_nodes)
            assert leaving_nodes() == {worker: f"at {time.strftime('%H:%M:%S', time.localtime(deadline))}"}
        finally:
            ray.shutdown()


class Guest:
    """Keeps its node from being idle."""

    def alive(self) -> bool:
        return True


def await_change(nodes: Callable[[], dict[str, str]], timeout_s: float = 30) -> None:
    """The notice takes a moment from the control store to its readers."""
    deadline = time.monotonic() + timeout_s
    while not nodes() and time.monotonic() < deadline:
        time.sleep(0.1)


if __name__ == "__main__":
    main()
