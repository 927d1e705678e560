import json
from pathlib import Path

import pytest

from cluster.config import RunConfig
from cluster.rundir import RunDir
from env.errors import UserError


def config(path: Path, **sections: object) -> RunConfig:
    return RunConfig.model_validate({"name": "r", "model": "m", "run_dir": str(path), **sections})


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(config(tmp_path / "run"))


def make_checkpoint(run: RunDir, step: int) -> Path:
    made = run.checkpoints / f"step_{step:06d}.tmp"
    made.mkdir(parents=True)
    (made / "model.safetensors").write_text(str(step))
    return made


def steps(run: RunDir) -> list[int]:
    return [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()]


def test_a_directory_that_holds_another_run_is_refused_and_left_alone(run: RunDir) -> None:
    run.write_evaluation(0, {"step": 0})
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="holds another run: go on with it by --resume"):
        RunDir.create(config(run.path))
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_a_directory_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="is not empty and holds no run"):
        RunDir.create(config(tmp_path))
    with pytest.raises(UserError, match="holds no run to resume"):
        RunDir.reopen(config(tmp_path))


def test_a_run_that_failed_before_its_first_result_leaves_the_place_free(tmp_path: Path) -> None:
    RunDir.create(config(tmp_path))
    assert RunDir.create(config(tmp_path, seed=7)).latest() is None
    assert "seed: 7" in (tmp_path / "config.yaml").read_text()


def test_a_run_that_goes_on_is_not_taken_over(run: RunDir) -> None:
    for resume in (True, False):
        with pytest.raises(UserError, match="is in use by another process"):
            RunDir.open(config(run.path), resume)


def test_only_a_run_of_the_same_configuration_is_resumed(tmp_path: Path) -> None:
    RunDir.create(config(tmp_path))
    with pytest.raises(UserError, match=r"another configuration: seed \(42 -> 7\)"):
        RunDir.reopen(config(tmp_path, seed=7))
    RunDir.reopen(config(tmp_path, loop={"iterations": 7}))
    assert "iterations: 7" in (tmp_path / "config.yaml").read_text()


def test_commit_marks_the_latest_and_keeps_the_newest(run: RunDir) -> None:
    assert run.latest() is None
    for step in (2, 4, 6):
        run.commit(step, make_checkpoint(run, step), keep=2)
    assert run.latest() == run.checkpoint(6)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["LATEST", "step_000004", "step_000006"]


def test_a_marker_without_its_checkpoint_is_an_error(run: RunDir) -> None:
    run.commit(2, make_checkpoint(run, 2), keep=1)
    (run.checkpoint(2) / "model.safetensors").unlink()
    run.checkpoint(2).rmdir()
    with pytest.raises(UserError, match="names step_000002, which is not there"):
        run.latest()


def test_rewind_takes_back_what_came_after_the_checkpoint(run: RunDir) -> None:
    for step in range(1, 7):
        run.append_metrics({"step": step})
        run.write_trajectories(step, [{"task_id": "t"}])
        run.write_evaluation(step, {"step": step})
    with run.metrics.open("a") as file:
        file.write('{"step": 7, "rew')  # killed while it wrote
    run.commit(4, make_checkpoint(run, 4), keep=2)
    make_checkpoint(run, 6)  # killed before it was committed
    (run.checkpoints / ".step_000006.tmp.7.partial").mkdir()  # killed while the learner wrote it
    run.rewind(4)
    assert steps(run) == [1, 2, 3, 4]
    assert [path.name for path in sorted((run.path / "trajectories").iterdir())][-1] == "step_000004.jsonl"
    assert [path.name for path in sorted((run.path / "evaluations").iterdir())][-1] == "step_000004.json"
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["LATEST", "step_000004"]
    run.append_metrics({"step": 5})
    assert steps(run) == [1, 2, 3, 4, 5]


def test_rewind_to_the_start(run: RunDir) -> None:
    run.append_metrics({"step": 1})
    run.rewind(0)
    assert steps(run) == []
