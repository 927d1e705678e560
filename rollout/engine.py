"""PolicyEngine: a Ray actor around vLLM's AsyncLLM. Ids in; ids, log-probabilities and version out."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import ray

from rollout.config import EngineConfig, SamplingConfig
from rollout.engine_args import engine_kwargs, sampling_kwargs, stop_token_ids
from rollout.errors import EngineError, PromptTooLongError, WeightUpdateError
from rollout.shared_memory import safetensors_files
from rollout.types import Completion


class PolicyEngine:
    """One vLLM engine. All methods but the constructor are coroutines; hundreds of requests run at once.

    Args:
        model_path: Hugging Face folder (or hub name) that the engine starts from.
        config: the engine's configuration.
        seed: of requests that bring none.
        version: the policy version of the starting weights.
        late: it joins engines that may have other weights by now, and waits for theirs.
    """

    def __init__(
        self, model_path: str, config: EngineConfig, seed: int, version: int = 0, late: bool = False
    ) -> None:
        from vllm import AsyncEngineArgs
        from vllm.config import WeightTransferConfig
        from vllm.v1.engine.async_llm import AsyncLLM

        self._stop_ids = stop_token_ids(model_path)
        transfer = WeightTransferConfig(backend=config.weight_transfer)
        kwargs = engine_kwargs(model_path, config, seed)
        self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(weight_transfer_config=transfer, **kwargs))
        self._config, self._version, self._start_version = config, version, version
        self._fault: str | None = None  # why the engine must not be used any more
        self._waits = late or ray.get_runtime_context().was_current_actor_reconstructed  # for the current weights
        self._begun: dict[str, float] = {}  # requests in flight, and when they came
        self._answered_at = time.monotonic()
        self._transfer_open = False
        self._requests = itertools.count()
        self._counts = {"requests": 0, "prompt_tokens": 0, "cached_tokens": 0, "output_tokens": 0}

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingConfig, seed: int | None = None
    ) -> Completion:
        """Sample one completion; temperature 0 is greedy (log-probabilities then at temperature 1).

        Raises EngineError (unusable engine) or PromptTooLongError.
        """
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        self._check_usable()
        if self._waits:
            raise EngineError("new or restarted: it waits for its weights")
        window = self._config.max_model_len
        room = window - len(prompt_ids)
        if room < 1 or not prompt_ids:
            raise PromptTooLongError(f"a prompt of {len(prompt_ids)} tokens in a window of {window}")
        kwargs = sampling_kwargs(sampling, room, seed, self._stop_ids)
        params = SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, **kwargs)
        prompt = TokensPrompt(prompt_token_ids=list(prompt_ids), cache_salt=self._cache_salt())
        request_id = str(next(self._requests))
        self._begun[request_id] = time.monotonic()
        try:
            outputs = [output async for output in self._llm.generate(prompt, params, request_id)]
        except EngineDeadError as error:
            self._fault = "vLLM's engine core died"
            raise EngineError(self._fault) from error
        finally:
            del self._begun[request_id]
        self._answered_at = time.monotonic()
        return self._completion(outputs[-1])

    def _completion(self, output: Any) -> Completion:
        sample = output.outputs[0]
        self._counts["requests"] += 1
        self._counts["prompt_tokens"] += len(output.prompt_token_ids)
        self._counts["cached_tokens"] += output.num_cached_tokens or 0
        self._counts["output_tokens"] += len(sample.token_ids)
        steps = zip(sample.logprobs, sample.token_ids, strict=True)
        logprobs = [step[token].logprob for step, token in steps]
        names = [span.version for span in sample.weight_versions or []]  # vLLM's own word for the starting weights
        spans = [int(name) if name.isdigit() else self._start_version for name in names]
        version = min(spans, default=self._version)
        cached = output.num_cached_tokens or 0
        return Completion(list(sample.token_ids), logprobs, version, sample.finish_reason, cached)

    async def update_weights(self, weights: Any, version: int) -> None:
        """Take over a whole model: safetensors bytes, object references to its parts as such bytes (fetched one after
        the other), or the path of a file or folder on this node.

        Running requests finish on the old weights, new ones wait. Raises WeightUpdateError when the weights
        are refused (the engine goes on with the old ones), EngineError when it is unusable from now on.
        """
        if not self._transfer_open:
            await self.open_transfer({})
        with ExitStack() as files:
            paths: list[Path] = []
            for part in weights if isinstance(weights, list) else [weights]:
                whole = await part if isinstance(part, ray.ObjectRef) else part
                paths += files.enter_context(safetensors_files(whole))
            await self.begin_update()
            await self.receive_update({"paths": [str(path) for path in paths]})
            await self.finish_update(version)

    async def open_transfer(self, init_info: dict[str, Any]) -> None:
        """First leg of vLLM's weight-transfer API: meet the sender."""
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        await self._leg(self._llm.init_weight_transfer_engine(WeightTransferInitRequest(init_info)), "init")
        self._transfer_open = True

    async def begin_update(self) -> None:
        """Second leg: let running requests finish (or stop where they are), hold new ones, prepare the worker."""
        self._check_usable()
        await self._llm.pause_generation(mode=self._config.update)
        await self._leg(self._llm.start_weight_update(), "start")

    async def receive_update(self, update_info: dict[str, Any]) -> None:
        """Third leg: the worker loads what ``update_info`` describes."""
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        await self._leg(self._llm.update_weights(WeightTransferUpdateRequest(update_info)), "update")

    async def finish_update(self, version: int) -> None:
        """Last leg: process the weights, name them ``version``, forget cached keys and values, go on.

        Requests that were kept hold on to their cache, so it cannot be reset: the salt hides it from new requests.
        """
        await self._leg(self._llm.finish_weight_update(str(version)), "finish")
        if not await self._llm.reset_prefix_cache() and self._config.update == "wait":
            self._fault = "the prefix cache could not be reset after a weight update"
            raise EngineError(self._fault)
        self._version, self._waits = version, False
        await self._llm.resume_generation()

    async def keep_start_weights(self) -> None:
        """A restarted or late engine may sample with the weights it starts from: there was no update yet."""
        self._waits = False

    async def _leg(self, call: Awaitable[None], name: str) -> None:
        """Await one leg. If it fails, intact weights let generation go on, else the engine is done for."""
        try:
            await call
        except Exception as error:  # vLLM raises the worker's error as a bare Exception
            if await self._weights_intact():
                await self._llm.resume_generation()
                raise WeightUpdateError(f"weight update refused at '{name}': {error}") from error
            self._fault = f"weight update failed half-way at '{name}': {error}"
            raise EngineError(self._fault) from error

    async def _weights_intact(self) -> bool:
        return not self._llm.errored and all(await self._llm.collective_rpc("weights_intact"))

    def _check_usable(self) -> None:
        if self._fault is not None:
            raise EngineError(self._fault)

    async def pause(self) -> None:
        """Let running requests finish and hold new ones until `resume`."""
        await self._llm.pause_generation(mode="wait", clear_cache=False)

    async def resume(self) -> None:
        """Go on after `pause`."""
        await self._llm.resume_generation()

    async def sleep(self) -> None:
        """Hold requests and give the GPU's memory to a colocated learner until `wake`; weights wait on the host.

        On CPU, where vLLM cannot release memory, requests are held and nothing else.
        """
        await self.pause()
        if self._config.num_gpus:
            await self._llm.sleep(level=1)

    async def wake(self) -> None:
        """Go on after `sleep`."""
        if self._config.num_gpus:
            await self._llm.wake_up()
        await self.resume()

    def _cache_salt(self) -> str | None:
        """Under `keep` a prefix is only shared among requests of the same version."""
        return str(self._version) if self._config.update == "keep" else None

    async def version(self) -> int:
        """The policy version of the weights in place."""
        return self._version

    async def health(self) -> dict[str, Any]:
        """`healthy` (bool), `fault` (why not, or None), `waits` for weights, `version`, `silent_s`.

        ``silent_s``: for how long no request was answered although some were there; 0 when there are none.
        """
        if self._fault is None and self._llm.errored:
            self._fault = "vLLM's engine core died"
        healthy = self._fault is None and not self._waits
        silent = time.monotonic() - max(self._answered_at, min(self._begun.values())) if self._begun else 0.0
        return {
            "healthy": healthy, "fault": self._fault, "waits": self._waits, "version": self._version,
            "silent_s": silent,
        }  # fmt: skip

    async def metrics(self) -> dict[str, float]:
        """Counts since the start (requests, prompt_tokens, cached_tokens, output_tokens) and memory_mb now.

        ``cached_tokens`` are the prompt tokens found in the prefix cache.
        """
        process = psutil.Process()
        resident = sum(p.memory_info().rss for p in [process, *process.children(recursive=True)])
        return {**self._counts, "memory_mb": resident / 2**20}

    async def shutdown(self) -> None:
        """Stop vLLM's processes."""
        self._llm.shutdown()
