"""Plans against figures worked out by hand."""

from pathlib import Path

import pytest

from cluster.config import RunConfig
from cluster.planning.hardware import Efficiency, Gpu
from cluster.planning.memory import (
    cached_tokens,
    engine_memory,
    fit_engine,
    fit_learner,
    learner_memory,
    learner_room,
)
from cluster.planning.plan import plan
from cluster.planning.probe import Probe, Timing
from cluster.planning.roofline import Phases, decode_step, devices, phases_of
from cluster.planning.shape import ModelShape, shape_of
from cluster.planning.workload import Workload, workload_of
from cluster.recipes import load_recipe
from env.errors import UserError

RECIPES = Path(__file__).parents[2] / "recipes"
QWEN3_8B = ModelShape(8_190_735_360, 36, 4096, 12288, 4096, 1024, 151936)
SMALL = ModelShape(parameters=1000, layers=2, hidden=4, intermediate=8, query=4, key_value=2, vocabulary=100)


def run(**sections: object) -> RunConfig:
    return RunConfig.model_validate({"name": "r", "model": "m", **sections})


@pytest.fixture(scope="module")
def paper() -> RunConfig:
    return load_recipe(RECIPES / "qwen3-8b-hotpotqa.yaml")


def test_parameters_of_known_models_are_their_makers_figures() -> None:
    assert shape_of("models/qwen3-8b-sft") == QWEN3_8B
    assert shape_of("Qwen/Qwen3-0.6B").parameters == 596_049_920  # the output layer is the embedding: counted once
    assert shape_of("models/smollm2").parameters == 134_515_008


def test_parts_of_a_shape_add_up_to_the_whole() -> None:
    norms = 36 * (2 * 4096 + 2 * 128) + 4096  # two per layer, two per head size, and the last
    table = QWEN3_8B.output_parameters  # as large as the output layer, and not tied to it
    assert QWEN3_8B.layer_parameters + QWEN3_8B.output_parameters + table + norms == QWEN3_8B.parameters


def test_a_model_that_is_not_known_is_refused() -> None:
    with pytest.raises(UserError, match="model 'own': no such folder, .*--set model=FOLDER"):
        shape_of("own")


def test_learner_states_by_zero_stage() -> None:
    def states(stage: int, workers: int, dtype: str) -> tuple[float, float, float]:
        parts = learner_memory(run(learner={"workers": workers, "zero_stage": stage, "dtype": dtype}), SMALL)
        return parts["parameters"], parts["gradients"], parts["optimizer"]

    assert states(0, 2, "float32") == (4000, 4000, 8000)
    assert states(1, 2, "float32") == (4000, 4000, 4000)
    assert states(2, 4, "bfloat16") == (2000, 1000, 3000)
    assert states(0, 4, "bfloat16") == (2000, 4000, 3000)  # bfloat16 always shares its master copies: stage 1
    assert states(3, 4, "bfloat16") == (2000, 1000, 3000)  # so small a model is gathered whole


def test_the_papers_learner_under_zero_3(paper: RunConfig) -> None:
    parts = learner_memory(paper, QWEN3_8B)
    assert parts["parameters"] == 8_190_735_360 * 2 / 4 + 2e9
    assert parts["gradients"] == 8_190_735_360 and parts["optimizer"] == 8_190_735_360 * 3
    assert parts["logits"] == 1024 * 151936 * 14
    layer = 2 * 6 * 4096 + 2 * (2 * 4096 + 2 * 4096 + 2 * 1024) + 2 * (2 * 4096 + 4 * 12288)
    assert parts["activations"] == 16384 * layer + 36 * 16384 * 4096 * 2


def test_activations_without_checkpointing_are_kept_for_every_layer() -> None:
    learner = {"micro_batch_tokens": 16, "dtype": "float32"}
    layer = 16 * (2 * 8 * 4 + 4 * (8 + 8 + 4) + 4 * (8 + 32))
    assert learner_memory(run(learner=learner), SMALL)["activations"] == 2 * layer
    with_it = learner_memory(run(learner={**learner, "gradient_checkpointing": True}), SMALL)
    assert with_it["activations"] == layer + 2 * 16 * 4 * 4


def test_an_engines_cache(paper: RunConfig) -> None:
    parts = engine_memory(paper, QWEN3_8B, 80e9)
    assert parts["kv_cache"] == 80e9 * 0.9 - 2 * 8_190_735_360 - 2e9
    assert QWEN3_8B.kv_bytes_per_token(2) == 147_456
    assert cached_tokens(paper, QWEN3_8B, 147_456_000) == 1000


def test_what_does_not_fit_comes_with_the_setting_that_mends_it(paper: RunConfig) -> None:
    assert fit_learner(paper, QWEN3_8B, 80e9).fits and fit_engine(paper, QWEN3_8B, 80e9).fits
    single = paper.model_copy(update={"learner": paper.learner.model_copy(update={"zero_stage": 1, "workers": 8})})
    assert fit_learner(single, QWEN3_8B, 80e9).fits  # 16 + 33 + 12 + 8 + 2 + 2 GB
    advice = fit_learner(single, QWEN3_8B, 40e9).advice
    assert advice == "learner.zero_stage=3"
    changed = single.model_copy(update={"learner": single.learner.model_copy(update={"zero_stage": 3})})
    assert fit_learner(changed, QWEN3_8B, 40e9).fits
    assert fit_engine(paper, QWEN3_8B, 20e9).advice == "rollout.engine.tensor_parallel=2 rollout.engine.num_gpus=2"


def test_a_learner_has_what_an_engine_on_its_gpu_leaves() -> None:
    small = load_recipe(RECIPES / "qwen3-0.6b.yaml")
    assert learner_room(small, 24e9) == pytest.approx(24e9 * 0.65)
    asleep = load_recipe(RECIPES / "qwen3-0.6b.yaml", ["rollout.engine.colocate=true"])
    assert learner_room(asleep, 24e9) == 24e9


def test_the_papers_documents_and_questions(paper: RunConfig) -> None:
    work = workload_of(paper)
    assert work.turns == 7 + 3.5  # 28,000 tokens in steps of 3,996; one question in half of the tasks, else 2..10
    assert work.episodes == 256 and work.output == 52.3
    assert work.prompt - work.shared == 0.5 * (1024 + 4096)
    assert work.prefill == pytest.approx(256 * work.turns * (work.prompt - work.shared * 15 / 16))


def test_tasks_that_are_here_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(RECIPES.parent)
    work = workload_of(load_recipe(RECIPES / "tiny.yaml"))
    assert 3 < work.turns < 8 and work.shared < 100


def test_roofline_by_hand() -> None:
    config = run(
        rollout={"engine": {"num_gpus": 1, "dtype": "bfloat16", "max_num_seqs": 4}},
        learner={"num_gpus": 1, "workers": 2},
    )  # fmt: skip
    work = Workload(episodes=8, group_size=4, turns=2, prompt=10, shared=4, output=5)
    gpu = Gpu(memory=1e15, flops=1000, bandwidth=100, link=10)
    exact = Efficiency(1, 1, 1, 1, 0)
    layers = 2 * (2 * 4 * (4 + 2) + 3 * 4 * 8)
    assert SMALL.layer_parameters == layers == 288
    forward = 2 * 288 + 4 * 2 * 4 * 7.5 + 2 * 400 * 5 / 15
    phases = phases_of(config, SMALL, work, gpu, exact)
    assert phases.learn == pytest.approx(3 * forward * 8 * 2 * 15 / 2000)
    assert phases.sync == 200
    # Decode: 4 at once read 2,000 bytes of weights and 12.5 positions of 16 bytes each: 28 s, more than arithmetic's.
    assert decode_step(config, SMALL, work, gpu, exact, running=4) == (2000 + 4 * 12.5 * 16) / 100
    prefill = 8 * 2 * (6 + 1) * (2 * 288 + 32 * 5) / 1000
    assert phases.rollout == pytest.approx(prefill + 2 * 2 * 5 * 28)
    assert phases.in_turn == phases.rollout + phases.learn + phases.sync
    assert Phases(rollout=30, learn=50, sync=4).overlapped == 54
    assert Phases(86_400, 0, 0).days(3, overlap=False) == 3


def test_gpus_that_are_shared_count_once() -> None:
    assert [devices(2, 0.5), devices(1, 0.5), devices(3, 1), devices(2, 2)] == [1, 1, 3, 4]


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_has_a_plan(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(RECIPES.parent)
    config, sft = load_recipe(path), path.stem.endswith("-sft")
    if config.model == "build/tiny/init":  # made on the way to the tiny policy
        config = config.model_copy(update={"model": "models/tiny-policy"})
    made = plan(config, gpu="h100-80gb", nodes=2 if "two-nodes" in path.stem else 1, gpus=8, sft=sft)
    assert made.fits, made.advice
    assert made.phases.learn > 0 and (sft or made.phases.rollout > 0)


def test_a_cluster_that_is_too_small_is_named(paper: RunConfig) -> None:
    made = plan(paper, gpu="h100-80gb", nodes=1, gpus=4)
    assert made.homeless == "no room for 3 x 2 CPU and 1 GPU (learner.workers) (node 1: 64 CPU and 4 GPU)"


def test_an_unknown_gpu_is_refused_with_the_nearest(paper: RunConfig) -> None:
    with pytest.raises(UserError, match="--gpu h100: did you mean h100-80gb"):
        plan(paper, gpu="h100", nodes=1, gpus=8)


def test_a_probe_is_a_line_through_two_sizes() -> None:
    probe = Probe(few=Timing(16, 3.0), more=Timing(32, 5.0), learn=Timing(1000, 2.0), tokens_per_episode=50, sync=0.5)
    assert probe.phases(64) == Phases(rollout=9.0, learn=6.4, sync=0.5)
