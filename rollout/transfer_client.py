"""The control plane of vLLM's weight-transfer API over our engines, for senders such as its NCCL trainer.

Written against vLLM's `VLLMWeightSyncClient` protocol. The NCCL backend needs GPUs; what runs on CPU is the
``shm`` backend, which needs no sender (`EnginePool.update_weights`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray.actor import ActorHandle


class TransferClient:
    """Drives every engine through one leg at a time and waits for all.

    Args:
        handles: PolicyEngine actors.
        workers_per_engine: tensor-parallel workers; the receivers of engine i begin at rank 1 + i * workers.
        timeout_s: of one leg: a receiver that failed would leave the sender in a broadcast for ever.
    """

    def __init__(self, handles: Sequence[ActorHandle], workers_per_engine: int, timeout_s: float) -> None:
        self._handles, self._workers, self._timeout_s = list(handles), workers_per_engine, timeout_s
        self._version = 0

    @property
    def world_size(self) -> int:
        """Ranks of the transfer group: one sender and every engine's workers."""
        return 1 + len(self._handles) * self._workers

    def next_version(self, version: int) -> None:
        """The policy version that the coming update carries."""
        self._version = version

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Let every engine join the transfer group at its own rank offset."""
        first = init_info.get("rank_offset", 1)
        infos = [init_info | {"rank_offset": first + i * self._workers} for i in range(len(self._handles))]
        self._wait([h.open_transfer.remote(info) for h, info in zip(self._handles, infos, strict=True)])

    def start_weight_update(self) -> None:
        """Hold generation and prepare the workers."""
        self._wait([handle.begin_update.remote() for handle in self._handles])

    def update_weights(self, update_info: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Receive what the sender broadcasts meanwhile."""
        self._wait([handle.receive_update.remote(update_info) for handle in self._handles])

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Process the weights and let generation go on."""
        version = int(weight_version) if weight_version is not None else self._version
        self._wait([handle.finish_update.remote(version) for handle in self._handles])

    def _wait(self, references: list[Any]) -> None:
        ray.get(references, timeout=self._timeout_s)
