"""Real vLLM engines: exact log-probabilities, live weight updates, refused updates, death and restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import safetensors.torch
import torch
from transformers import AutoModelForCausalLM

from rollout.config import EngineConfig, SamplingConfig
from rollout.errors import EngineError, PromptTooLongError, RolloutError, WeightUpdateError
from rollout.pool import EnginePool
from rollout.start import await_engines, launch_engines, start_engines
from rollout.types import Completion
from rollout.watch import EngineWatch
from tests.fixtures import save_tiny_llama

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("local_ray")]

CONFIG = EngineConfig(
    dtype="float32",
    max_model_len=512,
    enforce_eager=True,
    cpu_kv_cache_gib=0.1,
    num_cpus=1,
    request_timeout_s=60,
    recovery_timeout_s=0,  # failures are to show at once; waiting has a test of its own
)
PROMPTS = [[3, *range(6, 6 + length), 1, 5] for length in (4, 40, 90)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    """Two sets of weights each of a tied and an untied model, by (kind, seed)."""
    root = tmp_path_factory.mktemp("models")
    return {
        (kind, seed): save_tiny_llama(root / f"{kind}{seed}", seed=seed, tied=kind == "tied")
        for kind in ("tied", "untied")
        for seed in (0, 1)
    }


@pytest.fixture(scope="module")
def pools(local_ray: None, models: dict[tuple[str, int], Path]) -> Iterator[dict[str, EnginePool]]:
    started = {
        kind: launch_engines(str(models[kind, 0]), CONFIG, seed=0, namespace_prefix=kind)
        for kind in ("tied", "untied")
    }
    yield {kind: await_engines(pool) for kind, pool in started.items()}
    for pool in started.values():
        pool.shutdown()


def sample(
    pool: EnginePool, prompts: list[list[int]], sampling: SamplingConfig, seed: int | None = 1
) -> list[Completion]:
    async def gather() -> list[Completion]:
        calls = [pool.generate(prompt, sampling, affinity=i, seed=seed) for i, prompt in enumerate(prompts)]
        return list(await asyncio.gather(*calls))

    return asyncio.run(gather())


def worst_difference(path: Path, prompts: list[list[int]], completions: list[Completion], T: float) -> float:
    """Largest |log-probability of the engine - of transformers in float32| over all sampled tokens."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    differences = []
    for prompt, completion in zip(prompts, completions, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + completion.token_ids])).logits[0, len(prompt) - 1 : -1]
        logprobs = (logits / T).log_softmax(-1)
        taken = logprobs[torch.arange(len(completion.token_ids)), completion.token_ids]
        differences.append((taken - torch.tensor(completion.logprobs)).abs().max().item())
    return max(differences)


def assert_holds(pool: EnginePool, path: Path, version: int) -> None:
    """The engine samples from exactly these weights and says so."""
    completions = sample(pool, PROMPTS, SamplingConfig(max_new_tokens=24))
    assert worst_difference(path, PROMPTS, completions, 1.0) < 1e-4
    assert {completion.policy_version for completion in completions} == {version}
    assert pool.versions() == [version]


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_updated_engine_agrees_with_transformers(
    kind: str, pools: dict[str, EnginePool], models: dict[tuple[str, int], Path]
) -> None:
    pool = pools[kind]
    assert_holds(pool, models[kind, 0], 0)
    pool.update_weights((models[kind, 1] / "model.safetensors").read_bytes(), 1)
    assert_holds(pool, models[kind, 1], 1)
    pool.update_weights(str(models[kind, 0]), 2)
    assert_holds(pool, models[kind, 0], 2)
    tensors = list(safetensors.torch.load_file(models[kind, 1] / "model.safetensors").items())
    parts = [safetensors.torch.save(dict(part)) for part in (tensors[:5], tensors[5:])]
    pool.update_weights([ray.put(part) for part in parts], 3)
    assert_holds(pool, models[kind, 1], 3)
    assert not list(Path("/dev/shm").glob("atommem-weights-*"))


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_a_refused_update_leaves_the_old_weights(
    kind: str, pools: dict[str, EnginePool], models: dict[tuple[str, int], Path]
) -> None:
    pool, other = pools[kind], {"tied": "untied", "untied": "tied"}[kind]
    whole = (models[kind, 0] / "model.safetensors").read_bytes()
    wrong_kind = (models[other, 0] / "model.safetensors").read_bytes()
    for bad in (whole[:-100], b"not safetensors", wrong_kind, "/nowhere"):
        with pytest.raises(WeightUpdateError):
            pool.update_weights(bad, 9)
        assert pool.healthy() == [True]
    assert_holds(pool, models[kind, 1], 3)


def test_logprobs_are_those_at_the_sampling_temperature(
    pools: dict[str, EnginePool], models: dict[tuple[str, int], Path]
) -> None:
    completions = sample(pools["tied"], PROMPTS, SamplingConfig(temperature=0.6, max_new_tokens=24))
    assert worst_difference(models["tied", 1], PROMPTS, completions, 0.6) < 1e-4


def test_seeds_make_samples_repeatable_even_in_long_batches(pools: dict[str, EnginePool]) -> None:
    prompts = [
        [3, *(6 + (i * j) % 90 for j in range(100)), 5] for i in range(64)
    ]  # more than one prefill step
    sampling = SamplingConfig(max_new_tokens=8)
    first, again, other = (
        [completion.token_ids for completion in sample(pools["tied"], prompts, sampling, seed)]
        for seed in (5, 5, 6)
    )
    assert first == again
    assert first != other


def test_greedy_needs_no_seed_and_generation_ends_at_the_stop_token(pools: dict[str, EnginePool]) -> None:
    greedy = SamplingConfig(temperature=0, max_new_tokens=16)
    assert sample(pools["tied"], PROMPTS, greedy, None) == sample(pools["tied"], PROMPTS, greedy, 3)
    sampled = sample(pools["tied"], PROMPTS * 8, SamplingConfig(temperature=1.5, max_new_tokens=200), None)
    stopped = [completion for completion in sampled if completion.finish_reason == "stop"]
    assert stopped
    for completion in stopped:
        assert completion.token_ids.index(1) == len(completion.token_ids) - 1


def test_shared_prefixes_hit_the_cache_and_an_update_forgets_them(
    pools: dict[str, EnginePool], models: dict[tuple[str, int], Path]
) -> None:
    pool, prompt = pools["untied"], [3, *(6 + i % 90 for i in range(300)), 5]
    sample(pool, [prompt], SamplingConfig(max_new_tokens=1))
    before = pool.metrics()["cached_tokens"]
    sample(pool, [prompt], SamplingConfig(max_new_tokens=1))
    assert pool.metrics()["cached_tokens"] - before >= 256
    pool.update_weights(str(models["untied", 0]), 4)
    completion = sample(pool, [prompt], SamplingConfig(max_new_tokens=8))
    assert worst_difference(models["untied", 0], [prompt], completion, 1.0) < 1e-4


def test_no_completion_mixes_old_and_new_weights(
    pools: dict[str, EnginePool], models: dict[tuple[str, int], Path]
) -> None:
    handle, sampling = pools["untied"].handles[0], SamplingConfig(max_new_tokens=300)
    calls = [handle.generate.remote(PROMPTS[2], sampling, seed) for seed in range(12)]
    update = handle.update_weights.remote(str(models["untied", 1]), 5)
    calls += [handle.generate.remote(PROMPTS[2], sampling, seed) for seed in range(4)]
    ray.get(update, timeout=60)
    completions = ray.get(calls)
    assert {completion.policy_version for completion in completions} == {4, 5}
    assert completions[-1].policy_version == 5
    for version, seed in ((4, 0), (5, 1)):
        those = [completion for completion in completions if completion.policy_version == version]
        assert worst_difference(models["untied", seed], [PROMPTS[2]] * len(those), those, 1.0) < 1e-4


def test_under_keep_turns_go_on_through_an_update_and_new_ones_see_nothing_of_the_old(
    models: dict[tuple[str, int], Path],
) -> None:
    config = CONFIG.model_copy(update={"update": "keep"})
    pool = start_engines(str(models["untied", 0]), config, seed=0, namespace_prefix="keep")
    try:
        handle, sampling = pool.handles[0], SamplingConfig(max_new_tokens=380)
        prompt = [3, *(6 + i % 90 for i in range(100)), 5]
        calls = [handle.generate.remote(prompt, sampling, seed) for seed in range(24)]
        while ray.get(handle.health.remote())["silent_s"] == 0:
            time.sleep(0.01)
        time.sleep(0.5)  # into the middle of them
        pool.update_weights(str(models["untied", 1]), 1)
        under_way, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
        assert len(under_way) < len(calls), "the update did not wait for all"
        completions = ray.get(calls)
        assert {completion.policy_version for completion in completions} == {0}
        longest = max(completions, key=lambda completion: len(completion.token_ids))
        begun = Completion(longest.token_ids[:1], longest.logprobs[:1], 0, "")  # on a busy machine no more was done
        assert worst_difference(models["untied", 0], [prompt], [begun], 1.0) < 1e-4
        fresh = sample(pool, [prompt], SamplingConfig(max_new_tokens=16))
        assert fresh[0].policy_version == 1
        assert worst_difference(models["untied", 1], [prompt], fresh, 1.0) < 1e-4
    finally:
        pool.shutdown()


def test_a_prompt_that_fills_the_window_is_refused_and_the_room_limits_the_output(
    pools: dict[str, EnginePool],
) -> None:
    with pytest.raises(PromptTooLongError, match="512 tokens in a window of 512"):
        sample(pools["tied"], [[7] * 512], SamplingConfig(max_new_tokens=8))
    (completion,) = sample(pools["tied"], [[7] * 510], SamplingConfig(max_new_tokens=8))
    assert len(completion.token_ids) <= 2


def test_pause_holds_requests_until_resume(pools: dict[str, EnginePool]) -> None:
    handle = pools["tied"].handles[0]
    ray.get(handle.pause.remote())
    held = handle.generate.remote(PROMPTS[0], SamplingConfig(max_new_tokens=2), 0)
    assert ray.wait([held], timeout=1.0)[0] == []
    ray.get(handle.resume.remote())
    assert ray.get(held, timeout=30).token_ids


def test_more_engines_than_resources_is_one_clear_error() -> None:
    greedy = CONFIG.model_copy(update={"count": 2, "num_cpus": 50.0, "start_timeout_s": 1.0})
    with pytest.raises(RolloutError, match=r"count = 2 with 50 CPU.* is 100 CPU .*cluster has 4 CPU"):
        start_engines("some-model", greedy, seed=0, namespace_prefix="greedy")


def test_a_missing_model_is_one_clear_error() -> None:
    with pytest.raises(RolloutError, match="'/nowhere/model': no such folder"):
        start_engines("/nowhere/model", CONFIG, seed=0, namespace_prefix="missing")


def test_a_half_updated_engine_is_out_of_use_until_an_update_restarts_it(
    pools: dict[str, EnginePool], models: dict[tuple[str, int], Path]
) -> None:
    tied, untied = pools["tied"], pools["untied"]
    both = EnginePool(tied.handles + untied.handles, tied.names + untied.names, CONFIG.model_copy(update={"count": 2}))
    handle = tied.handles[0]
    ray.get(handle.begin_update.remote())
    ray.get(handle.receive_update.remote({"paths": [str(models["tied", 0] / "model.safetensors")]}))
    with pytest.raises(EngineError, match="half-way at 'update'"):
        ray.get(handle.receive_update.remote({"paths": ["/nowhere"]}))
    assert both.healthy() == [False, True]
    (completion,) = sample(both, PROMPTS[:1], SamplingConfig(max_new_tokens=4))
    assert completion.policy_version == 5  # the other engine's
    tied.update_weights((models["tied", 1] / "model.safetensors").read_bytes(), 7)
    assert_holds(tied, models["tied", 1], 7)


def test_a_turn_waits_for_its_only_engine_which_comes_back_with_the_current_weights(
    pools: dict[str, EnginePool], models: dict[tuple[str, int], Path]
) -> None:
    engine = pools["tied"]
    patient = EnginePool(engine.handles, engine.names, CONFIG.model_copy(update={"recovery_timeout_s": 300}))
    patient.update_weights((models["tied", 1] / "model.safetensors").read_bytes(), 8)
    expected = sample(patient, PROMPTS[:1], SamplingConfig(max_new_tokens=24), seed=5)
    watch = EngineWatch(patient, every_s=0.5).start()
    try:
        patient.kill(0)
        assert sample(patient, PROMPTS[:1], SamplingConfig(max_new_tokens=24), seed=5) == expected
        assert watch.events[-1] == "tied-engine-0 is back with the current weights"
        assert watch.restarts == 1 and patient.versions() == [8]
    finally:
        watch.stop()


def test_without_any_engine_alive_the_error_names_each(pools: dict[str, EnginePool]) -> None:
    ray.kill(pools["tied"].handles[0])
    with pytest.raises(EngineError, match="tied-engine-0: "):
        sample(pools["tied"], PROMPTS[:1], SamplingConfig(max_new_tokens=4))
