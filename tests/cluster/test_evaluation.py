"""`atommem evaluate` with real engines and runners: every method to the end, resumed, the same again."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from cluster.evaluate_options import Asked, resolve, spread
from cluster.evaluation import evaluate
from cluster.recipes import load_recipe
from env.errors import UserError
from evaluation.results import Results

ROOT = Path(__file__).parents[2]
METHODS = ("atommem", "memagent", "rag", "rag-bm25", "rag-hybrid", "full-context", "a-mem", "generative-agents")
TASKS = 4
SAME = ("suite", "variant", "task_id", "position", "answer", "em", "f1", "cover_em", "tokens_in", "tokens_out", "calls")


def config(directory: Path, tasks: int = TASKS):
    variants = [{"method": name} for name in METHODS]
    variants.append({"name": "without-both", "set": ["env.operations=[]"]})
    changes = {
        "model": str(ROOT / "models" / "tiny-policy"), "run_dir": str(directory), "evaluation.tasks": tasks,
        "evaluation.variants": json.dumps(variants), "env.max_steps": 6,
    }  # fmt: skip
    return load_recipe(ROOT / "recipes" / "tiny.yaml", [f"{key}={value}" for key, value in changes.items()])


def answers(directory: Path) -> list[tuple]:
    rows = pq.read_table(directory / "results.parquet").to_pylist()
    return [tuple(row[name] for name in SAME) for row in rows]


@pytest.mark.stack
@pytest.mark.usefixtures("local_ray")
def test_an_interrupted_evaluation_goes_on_and_comes_to_the_same(tmp_path, monkeypatch):
    whole = evaluate(config(tmp_path / "whole"))
    assert whole.is_file() and len({row[1] for row in answers(tmp_path / "whole")}) == len(METHODS) + 1

    add, finished = Results.add, []

    def stops_after_seven(self, key, index, *rest):
        if len(finished) == 7:
            raise KeyboardInterrupt
        add(self, key, index, *rest)
        finished.append(self.path(key, index))

    monkeypatch.setattr(Results, "add", stops_after_seven)
    with pytest.raises(KeyboardInterrupt):
        evaluate(config(tmp_path / "cut"))
    monkeypatch.setattr(Results, "add", add)
    written = {path: path.stat().st_mtime_ns for path in finished}
    evaluate(config(tmp_path / "cut"))
    assert {path: path.stat().st_mtime_ns for path in finished} == written
    assert answers(tmp_path / "cut") == answers(tmp_path / "whole")


def test_tasks_come_in_turn_and_neighbours_prefer_different_engines(tmp_path, monkeypatch):
    asked = []

    class Queue:
        def run(self, requests):
            asked.extend(requests)
            raise KeyboardInterrupt

    side = SimpleNamespace(collector=Queue())
    monkeypatch.setattr("cluster.evaluation.rollout_side", lambda *_: nullcontext(side))
    with pytest.raises(KeyboardInterrupt):
        evaluate(config(tmp_path))
    variants = len(METHODS) + 1
    assert [request.group_id for request in asked] == list(range(TASKS * variants))  # an id is its home engine, modulo
    tasks = [request.task.task_id for request in asked]
    assert [len(set(tasks[i : i + variants])) for i in range(0, len(tasks), variants)] == [1] * TASKS


def test_options_make_suites_and_variants():
    arguments = ["model", "--suite", "hotpotqa", "ruler", "--docs", "50", "200", "--tasks", "3"]
    assert spread(arguments, ("--suite", "--docs")) == [
        "model", "--suite", "hotpotqa", "--suite", "ruler", "--docs", "50", "--docs", "200", "--tasks", "3",
    ]  # fmt: skip
    tiny = ROOT / "recipes" / "tiny.yaml"
    asked = Asked(Path("m"), tiny, ["hotpotqa", "registry"], [50, 200], ["atommem", "rag"], "d.json", None, 3, [])
    made = resolve(asked)
    assert [suite.label for suite in made.evaluation.suites] == ["hotpotqa-50", "hotpotqa-200", "registry"]
    assert made.evaluation.suites[0].options == {"data": "d.json", "docs": 50}
    assert [variant.label for variant in made.evaluation.variants] == ["atommem", "rag"]
    assert (made.model, made.evaluation.tasks) == ("m", 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["evaluation.variants=[{method: memagnt}]"], "unknown method 'memagnt'; did you mean memagent"),
        (["evaluation.suites=[{suite: registri}]"], "unknown suite 'registri'; did you mean registry"),
        (["evaluation.variants=[{set: [rollout.engine.count=2]}]"], "changes more than a variant may"),
        (["evaluation.variants=[{set: [env.chunk_tokens=900]}]"], "do not fit into the window"),
        (["evaluation.variants=[{set: [env.topk=3]}]"], "did you mean env.top_k"),
        (["rollout.engine.max_model_len=4096"], "has a window of 1024 tokens"),
        (["model=models/nothing/here"], "cannot be loaded"),
        (["model=tests"], "no Hugging Face folder"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(changes, message, monkeypatch):
    from cluster.plan import plan

    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=message):
        plan(load_recipe(ROOT / "recipes" / "tiny.yaml", changes))


def test_two_of_the_same_name_are_refused():
    with pytest.raises(UserError, match="two are called 'rag'; give one of them a name"):
        load_recipe(ROOT / "recipes" / "tiny.yaml", ["evaluation.variants=[{method: rag}, {method: rag}]"])


def test_a_checkpoint_outside_a_run_needs_a_recipe(tmp_path):
    with pytest.raises(UserError, match="lies in no run directory"):
        resolve(Asked(tmp_path, None, [], [], [], None, None, None, []))
    with pytest.raises(UserError, match="give --suite as well"):
        resolve(Asked(tmp_path, ROOT / "recipes" / "tiny.yaml", [], [50], [], None, None, None, []))
