"""The policy engine as a Serve deployment, and the agents' way to it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from cluster.serving.config import ServingConfig
from cluster.serving.database import Database
from cluster.serving.deployments import Deployments
from cluster.serving.errors import DatabaseDown
from rollout.config import SamplingConfig
from rollout.engine import PolicyEngine
from rollout.errors import EngineError, PromptTooLongError, WeightUpdateError
from rollout.types import Completion

logger = logging.getLogger(__name__)
_LOOK_S = 1.0  # how often a replica asks which checkpoint is wanted
_RETRY_S = 0.5


@serve.deployment
class EngineReplica:
    """One vLLM engine that serves the checkpoint that the database says is wanted, from one request to the next."""

    async def __init__(self, config: ServingConfig) -> None:  # type: ignore[misc]
        database = Database(config.database)
        await database.migrate()
        self._deployments = Deployments(database)
        row = await self._deployments.first(config.model)
        self._engine = PolicyEngine(row.checkpoint, config.engine, seed=0, version=row.version)
        self._checkpoint, self._version = row.checkpoint, row.version
        await self._deployments.settle(row.version, "active")
        self._following = asyncio.create_task(self._follow())

    async def generate(self, prompt_ids: list[int], sampling: SamplingConfig, seed: int | None) -> Completion:
        """See `PolicyEngine.generate`; a cancelled call is aborted in the engine."""
        return await self._engine.generate(prompt_ids, sampling, seed)

    async def check_health(self) -> None:
        """Serve replaces a replica that raises here."""
        health = await self._engine.health()
        if not health["healthy"]:
            raise EngineError(health["fault"])

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                row = await self._deployments.wanted()
                if row is not None and row.version != self._version:
                    await self._swap(row.checkpoint, row.version)
            except DatabaseDown as error:
                logger.warning("deployments: %s", error)

    async def _swap(self, checkpoint: str, version: int) -> None:
        """Between two requests; a checkpoint that cannot be loaded is refused and the one in place goes on."""
        try:
            _check_tokenizer(checkpoint, self._checkpoint)
            await self._engine.update_weights(checkpoint, version)
        except (WeightUpdateError, EngineError) as error:
            logger.warning("checkpoint %s is refused: %s", checkpoint, error)
            await self._deployments.settle(version, "refused", str(error))
            return
        self._checkpoint, self._version = checkpoint, version
        await self._deployments.settle(version, "active")


def _check_tokenizer(new: str, old: str) -> None:
    """Prompts are made with the tokenizer that the server started with. Raises WeightUpdateError for another."""
    files = [Path(folder) / "tokenizer.json" for folder in (new, old)]
    if not all(file.is_file() for file in files) or files[0].read_bytes() != files[1].read_bytes():
        raise WeightUpdateError(f"'{new}' has another tokenizer.json than '{old}': serve it with a new server")


class EngineClient:
    """`rollout.types.Generator` over Serve: when an engine dies another one is asked, for `timeout_s` at most."""

    def __init__(self, handle: DeploymentHandle, timeout_s: float) -> None:
        self._handle, self._timeout_s = handle, timeout_s

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingConfig, affinity: int, seed: int | None = None
    ) -> Completion:
        """Raises EngineError when no engine answers in time, PromptTooLongError."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            response = self._handle.generate.remote(list(prompt_ids), sampling, seed)
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                    return await response
            except PromptTooLongError as error:
                raise PromptTooLongError(str(getattr(error, "cause", error))) from error
            except asyncio.CancelledError:
                response.cancel()
                raise
            except TimeoutError as error:
                response.cancel()
                raise EngineError(f"no answer within {self._timeout_s:g} s") from error
            except (EngineError, RayError, BackPressureError) as error:
                logger.warning("engine: %s", str(error).splitlines()[-1:])
                await asyncio.sleep(_RETRY_S)
                if time.monotonic() + _RETRY_S > deadline:
                    raise EngineError(f"no engine came back within {self._timeout_s:g} s") from error
