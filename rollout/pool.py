"""EnginePool: several policy engines as one generator, with routing, retries and weight updates for all."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayError

from rollout.config import EngineConfig, SamplingConfig
from rollout.errors import EngineError, PromptTooLongError, RolloutError, WeightUpdateError
from rollout.routing import route
from rollout.transfer_client import TransferClient
from rollout.types import Completion

_AFFINITY_SLACK = 16  # requests; about two groups of the usual size
_RETRY_EVERY_S = 1.0
_LOOK_EVERY_S = 1.0  # for engines that are not there
_COOL_DOWN_S = 10.0  # an engine that failed gets no requests for this long, as long as there are others


@dataclass
class _Absent:
    """An engine that has no node: a call that it will answer once it has started, and when to look next."""

    call: Any = None
    look_at: float = 0.0

    def arrived(self, handle: ActorHandle) -> bool:
        now = time.monotonic()
        if now < self.look_at:
            return False
        self.look_at = now + _LOOK_EVERY_S
        try:
            self.call = self.call or handle.health.remote()
            ray.get(self.call, timeout=0)
        except GetTimeoutError:
            return False
        except RayError:  # between two lives: this call is lost
            self.call = None
            return False
        return True


class EnginePool:
    """Engines by handle. A copy travels to every runner, which routes by its own requests in flight.

    Args:
        handles: Ray actors of class PolicyEngine; those beyond ``config.count`` may wait for a node, or lose theirs.
        names: their actor names, for messages.
        config: of the engines.
    """

    def __init__(self, handles: Sequence[ActorHandle], names: Sequence[str], config: EngineConfig) -> None:
        self.handles, self.names, self.config = list(handles), list(names), config
        self._loads = [0] * len(self.handles)
        self._failed_at = [float("-inf")] * len(self.handles)
        self._absent = {index: _Absent() for index in range(config.count, len(self.handles))}
        self.lock = threading.RLock()  # held while weights are on their way: the watch keeps out of it
        self._latest: tuple[Any, int] | None = None  # what a restarted engine is given

    def __reduce__(self) -> tuple[Any, ...]:
        return EnginePool, (self.handles, self.names, self.config)

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingConfig, affinity: int, seed: int | None = None
    ) -> Completion:
        """Sample on one engine; when it fails or stays silent, on the next; when all fail, wait for one to return.

        A turn that is sampled again has the same seed. Raises EngineError with every engine's reason when none
        has come back for ``recovery_timeout_s``, or PromptTooLongError.
        """
        deadline = time.monotonic() + self.config.recovery_timeout_s
        while True:
            try:
                return await self._try_each(prompt_ids, sampling, affinity, seed)
            except EngineError:
                if time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(_RETRY_EVERY_S)

    async def _try_each(
        self, prompt_ids: Sequence[int], sampling: SamplingConfig, affinity: int, seed: int | None
    ) -> Completion:
        reasons: dict[int, str] = {}
        while (index := self._choose(affinity, reasons)) is not None:
            self._loads[index] += 1
            reference: Any = self.handles[index].generate.remote(list(prompt_ids), sampling, seed)
            try:
                return await asyncio.wait_for(_result(reference), self.config.request_timeout_s)
            except PromptTooLongError:
                raise
            except TimeoutError:
                ray.cancel(reference)
                reasons[index] = f"silent for {self.config.request_timeout_s:g} s"
            except asyncio.CancelledError:
                ray.cancel(reference)
                raise
            except (EngineError, RayError) as error:
                reasons[index] = _first_line(error)
            finally:
                self._loads[index] -= 1
            self._failed_at[index] = time.monotonic()
        raise EngineError("; ".join(f"{self.names[index]}: {reason}" for index, reason in reasons.items()))

    def _choose(self, affinity: int, tried: dict[int, str]) -> int | None:
        now = time.monotonic()
        cooling = {index for index, at in enumerate(self._failed_at) if now - at < _COOL_DOWN_S}
        out = tried.keys() | {index for index in list(self._absent) if not self.here(index)}
        index = route(self._loads, affinity, _AFFINITY_SLACK, cooling | out)
        return route(self._loads, affinity, _AFFINITY_SLACK, out) if index is None else index

    def here(self, index: int) -> bool:
        """Whether an engine is running, as far as this copy knows; it looks for absent ones once a second."""
        absent = self._absent.get(index)
        if absent is None:
            return True
        if absent.arrived(self.handles[index]):
            self._absent.pop(index, None)  # the watch's thread may have seen it too
        return index not in self._absent

    def leave(self, index: int) -> None:
        """An engine beyond ``count`` was lost: nobody waits for it, until it is back by itself."""
        self._absent.setdefault(index, _Absent())

    def update_weights(self, weights: Any, version: int) -> float:
        """Give every engine the same weights and wait until all have them; returns the seconds that took.

        Args:
            weights: safetensors bytes, an ObjectRef to them, a list of ObjectRefs to parts, or a path that every
                engine's node can read.
            version: the policy version that completions carry from now on.

        An engine that died, broke or hung is restarted and updated once more. Raises WeightUpdateError when the
        weights are refused (all engines keep theirs), RolloutError when an engine does not come back.
        """
        started = time.monotonic()
        with self.lock:
            payload = _owned_here(weights)
            self._update_all(payload, version)
            self._latest = payload, version
        return time.monotonic() - started

    def _update_all(self, payload: Any, version: int) -> None:
        failed = self._update(payload, version, [index for index in range(len(self.handles)) if self.here(index)])
        for index in [index for index in failed if index >= self.config.count]:
            self.kill(index)
            self.leave(index)
            del failed[index]
        if failed:
            self._restart(failed)
            failed = self._update(payload, version, failed)
        if failed:  # a kill takes a moment: the old process may have called itself ready before it died
            wait_until_ready([self.handles[index] for index in failed], self.config.start_timeout_s)
            failed = self._update(payload, version, failed)
        if failed:
            reasons = "; ".join(f"{self.names[index]}: {reason}" for index, reason in failed.items())
            raise RolloutError(f"engines that do not come back after a restart: {reasons}")

    def revive(self, index: int) -> str | None:
        """Give a restarted engine what the others have; returns why that failed, or None.

        With NCCL the weights are with the learner alone: the engine waits for the next update.
        """
        if self._latest is None and self.config.weight_transfer == "nccl":
            return "it waits for the next update"
        if self._latest is not None:
            return self._update(*self._latest, [index]).get(index)
        try:
            ray.get(self.handles[index].keep_start_weights.remote(), timeout=self.config.request_timeout_s)
        except RayError as error:
            return _first_line(error)
        return None

    def kill(self, index: int) -> None:
        """End an engine's process; Ray starts it again."""
        ray.kill(self.handles[index], no_restart=False)

    def sleep(self) -> None:
        """Let all engines give their devices to the learner."""
        ray.get([handle.sleep.remote() for handle in self.handles], timeout=self.config.request_timeout_s)

    def wake(self) -> None:
        """Let all engines go on after `sleep`."""
        ray.get([handle.wake.remote() for handle in self.handles], timeout=self.config.request_timeout_s)

    def _update(self, weights: Any, version: int, indices: Any) -> dict[int, str]:
        """Update some engines at once; returns why those failed that are unusable now."""
        references = {index: self.handles[index].update_weights.remote(weights, version) for index in indices}
        failed: dict[int, str] = {}
        refusals: list[str] = []
        deadline = time.monotonic() + self.config.request_timeout_s
        for index, reference in references.items():
            try:
                ray.get(reference, timeout=max(0.0, deadline - time.monotonic()))
            except WeightUpdateError as error:
                refusals.append(_first_line(error))
            except (EngineError, RayError) as error:
                failed[index] = _first_line(error)
        if refusals:
            raise WeightUpdateError(refusals[0])
        return failed

    def _restart(self, indices: Any) -> None:
        for index in indices:
            self.kill(index)
        wait_until_ready([self.handles[index] for index in indices], self.config.start_timeout_s)

    def transfer_client(self) -> TransferClient:
        """The engines as vLLM's trainer side wants them (`VLLMWeightSyncClient`), for the NCCL backend."""
        return TransferClient(self.handles, self.config.tensor_parallel, self.config.request_timeout_s)

    def healthy(self, timeout_s: float = 10.0) -> list[bool]:
        """Which engines answer and call themselves healthy."""
        return [bool(answer and answer["healthy"]) for answer in self._ask("health", timeout_s)]

    def versions(self, timeout_s: float = 10.0) -> list[int | None]:
        """The policy version of every engine; None for one that does not answer."""
        return self._ask("version", timeout_s)

    def metrics(self, timeout_s: float = 10.0) -> dict[str, float]:
        """Counts summed over the engines that answer, see `PolicyEngine.metrics`."""
        answers = [answer for answer in self._ask("metrics", timeout_s) if answer]
        return {key: sum(answer[key] for answer in answers) for key in answers[0]} if answers else {}

    def _ask(self, method: str, timeout_s: float) -> list[Any]:
        asked = [index for index in range(len(self.handles)) if self.here(index)]
        references = [getattr(self.handles[index], method).remote() for index in asked]
        ray.wait(references, num_returns=len(references), timeout=timeout_s)
        answers: list[Any] = [None] * len(self.handles)
        for index, reference in zip(asked, references, strict=True):
            with suppress(RayError, GetTimeoutError):
                answers[index] = ray.get(reference, timeout=0)
        return answers

    def shutdown(self) -> None:
        """End all engines and their processes."""
        for handle in self.handles:
            ray.kill(handle)


def wait_until_ready(handles: Sequence[ActorHandle], timeout_s: float) -> None:
    """Block until every engine is up. Raises GetTimeoutError, or what an engine's start failed with."""
    deadline = time.monotonic() + timeout_s
    waiting = list(handles)
    while waiting:
        try:
            ray.get(waiting[0].health.remote(), timeout=max(0.0, deadline - time.monotonic()))
            waiting.pop(0)
        except ActorUnavailableError:  # between the old process and the new one
            time.sleep(0.2)


def _owned_here(weights: Any) -> Any:
    """Weights as this process's own object: one that a learner owns is lost with that learner."""
    if isinstance(weights, list):
        return [_owned_here(part) for part in weights]
    if isinstance(weights, ray.ObjectRef):
        weights = ray.get(weights)
    return ray.put(weights) if isinstance(weights, bytes | bytearray) else weights


async def _result(reference: Any) -> Completion:
    return await reference


def _first_line(error: Exception) -> str:
    """Type and first line of an error, as it was raised in the engine."""
    origin = getattr(error, "cause", None) or error
    return f"{type(origin).__name__}: {(str(origin).strip() or 'no message').splitlines()[0]}"
