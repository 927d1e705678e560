"""Takes the learner's weights to the engines.

``shm``: the weights go as safetensors bytes through Ray's object store (so also to another node) and are loaded by
the CPU backend of vLLM's weight-transfer API (rollout/weight_transfer.py). ``nccl``: learner rank 0 broadcasts them to
the engines' GPUs with vLLM's own trainer side; under ZeRO-3 all ranks gather bucket by bucket.
"""

from __future__ import annotations

import time

from learner.group import LearnerGroup
from rollout.pool import EnginePool


class WeightSync:
    """Pushes policy versions. `push` returns when every engine samples with the new weights.

    Requests in flight finish on the old weights; what has to wait for what is up to the loop.
    """

    def __init__(self, learner: LearnerGroup, pool: EnginePool) -> None:
        self._learner, self._pool = learner, pool
        self._dtype = pool.config.dtype
        self._backend = pool.config.weight_transfer
        self._opened = False

    def push(self, version: int) -> float:
        """Bring all engines to the learner's current weights, named ``version``; returns the seconds that took."""
        started = time.perf_counter()
        if self._backend == "shm":
            self._pool.update_weights(self._learner.weights(self._dtype), version)
        else:
            self._broadcast(version)
        return time.perf_counter() - started

    def reopen(self) -> None:
        """Meet again before the next push: the learner's workers, or an engine, are other processes now."""
        self._opened = False

    def _broadcast(self, version: int) -> None:
        if not all(self._pool.healthy()):
            self.reopen()
        if not self._opened:
            address = self._learner.call("address")[0]
            self._learner.call("open_broadcast", address, self._pool.transfer_client(), self._dtype)
            self._opened = True
        self._learner.call("broadcast", version)
