from pathlib import Path

import pytest

from cluster.config import RunConfig
from cluster.recipes import changed, dump, load_recipe
from env.errors import UserError

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))


def write(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write(tmp_path, "name: r\nmodel: m\n")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_load(path: Path, tmp_path: Path) -> None:
    config = load_recipe(path)
    assert config.name == path.stem
    again = load_recipe(write(tmp_path, dump(config)))
    assert again == config, "what a run keeps reads back as the same configuration"


def test_there_is_a_recipe_for_every_setting_of_the_paper() -> None:
    names = {path.stem for path in RECIPES}
    assert {"tiny", "smollm2-hotpotqa", "qwen3-0.6b"} <= names
    assert {"qwen3-8b-hotpotqa", "qwen3-8b-hotpotqa-two-nodes", "qwen3-8b-2wiki", "qwen3-8b-musique"} <= names
    paper = load_recipe(next(path for path in RECIPES if path.stem == "qwen3-8b-musique"))
    assert (paper.rollout.tasks_per_batch, paper.rollout.group_size) == (16, 16)
    assert (paper.env.chunk_tokens, paper.env.top_k, paper.env.haystack.documents) == (4096, 6, 200)
    assert (paper.learner.optimizer.lr, paper.learner.optimizer.warmup_steps) == (1e-6, 20)
    assert (paper.learner.grpo.clip_low, paper.learner.grpo.clip_high) == (0.2, 0.28)
    assert paper.env.task == "musique" and paper.env.embedder.type == "openai"


def test_overrides_are_yaml_values(recipe: Path) -> None:
    embedder = "env.embedder={type: hashing, dim: 16}"
    config = load_recipe(
        recipe, ["learner.optimizer.lr=1e-5", "env.operations=[create, read]", "env.capacity=20", embedder]
    )
    assert config.learner.optimizer.lr == 1e-5
    assert config.env.operations == ["create", "read"]
    assert config.env.capacity == 20
    assert config.env.embedder.type == "hashing" and config.env.embedder.dim == 16
    assert load_recipe(recipe, ["env.capacity=20", "env.capacity=null"]).env.capacity is None


def test_a_recipe_may_build_on_another(tmp_path: Path) -> None:
    embedder = "env: {embedder: {type: openai, base_url: u, model: e}}\n"
    write(tmp_path, f"name: base\nmodel: m\nloop: {{iterations: 7, eval_episodes: 3}}\n{embedder}", "base.yaml")
    config = load_recipe(
        write(tmp_path, "base: base.yaml\nname: child\nloop: {iterations: 9}\nenv: {embedder: {type: hashing}}\n")
    )
    assert (config.name, config.model, config.loop.iterations, config.loop.eval_episodes) == ("child", "m", 9, 3)
    assert config.env.embedder.type == "hashing", "a section of another type replaces the base's"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("learner.lr=1e-5", "unknown key learner.lr; did you mean learner.optimizer.lr?"),
        ("env.embeder=1", "unknown key env.embeder; did you mean env.embedder?"),
        ("env.embedder.dim=8", "env.embedder needs a 'type' when it is set"),
        ("env.embedder={type: hashing, dimm: 8}", "unknown key env.embedder.dimm; did you mean env.embedder.dim?"),
        ("loop.iterations=many", "loop.iterations is 'many': should be a valid integer"),
        ("loop.iterations=0", "loop.iterations is 0: should be greater than or equal to 1"),
        ("env.operations=[create, reed]", "env.operations.1 is 'reed': should be 'create', 'read'"),
        ("learner=3", "learner is 3: should be a valid dictionary"),
        ("model=null", "model is None: should be a valid string"),
        ("name=a/b", "name is 'a/b': string should match pattern"),
        ("env.reward.metric=judge", "env.reward: metric 'judge' needs the section 'judge'"),
        ("loop.iterations", "--set loop.iterations: write it as section.key=value"),
        ("loop.iterations=[1", "--set loop.iterations=[1: the value is not valid YAML"),
    ],
)
def test_bad_values_are_named_in_one_line(recipe: Path, override: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(recipe, [override])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_chunk_larger_than_the_window_is_refused_naming_both(recipe: Path) -> None:
    window = ["rollout.engine.max_model_len=1024", "rollout.sampling.max_new_tokens=64"]
    with pytest.raises(UserError) as caught:
        load_recipe(recipe, ["env.chunk_tokens=900", *window])
    for part in ("env.chunk_tokens (900)", "rollout.engine.max_model_len (1024)", "= 960 tokens of prompt"):
        assert part in str(caught.value)


def test_nccl_without_gpus_is_refused(recipe: Path) -> None:
    with pytest.raises(UserError, match="weight_transfer is nccl, which needs GPUs"):
        load_recipe(recipe, ["rollout.engine.weight_transfer=nccl"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "this is empty"),
        ("- 1\n", "this is a list"),
        ("a: [\n", "not valid YAML"),
        ("base: recipe.yaml\n", "back to itself"),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load_recipe(write(tmp_path, text))
    assert "\n" not in str(caught.value) and "recipe.yaml" in str(caught.value)


def test_missing_files_and_keys(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such recipe file"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="model is missing"):
        load_recipe(write(tmp_path, "name: r\n"))


def test_changed_names_paths_and_values() -> None:
    old = RunConfig(name="a", model="m").model_dump(mode="json")
    new = RunConfig(name="a", model="n").model_dump(mode="json")
    assert list(changed(old, new)) == ["model ('m' -> 'n')"]
    assert list(changed(old, old)) == []
