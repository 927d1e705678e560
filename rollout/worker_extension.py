"""What the engine asks of vLLM's worker beyond its own methods. vLLM mixes this class into the worker."""

from __future__ import annotations

from typing import Any

import psutil

import rollout.weight_transfer  # noqa: F401  (registers the CPU weight-transfer backend in the worker process)


class WorkerExtension:
    """Methods for `collective_rpc`."""

    weight_transfer_engine: Any

    def weights_intact(self) -> bool:
        """Whether a failed update left the model as it was. Backends that cannot tell count as damaged."""
        return getattr(self.weight_transfer_engine, "intact", False)

    def resident_mb(self) -> float:
        """Resident memory of the worker process in MiB."""
        return psutil.Process().memory_info().rss / 2**20
