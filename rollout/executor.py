"""The executor of an engine whose worker lives in the engine core."""

from __future__ import annotations

import multiprocessing

from vllm.v1.executor.uniproc_executor import UniProcExecutor


class InCoreExecutor(UniProcExecutor):
    """vLLM's, which leaves nothing in shared memory when it is killed while it loads.

    Loading makes two locks (vLLM's for its worker, tqdm's for its bar). In a spawned process a lock is a named file in
    /dev/shm until it is collected; under the start method "fork" the name is gone at once.
    """

    def _init_executor(self) -> None:
        method = multiprocessing.get_start_method()
        multiprocessing.set_start_method("fork", force=True)
        try:
            super()._init_executor()
        finally:
            multiprocessing.set_start_method(method, force=True)
