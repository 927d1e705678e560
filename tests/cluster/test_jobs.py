"""What `atommem submit` hands to Ray, and which job it finds."""

import inspect
from pathlib import Path

import pytest

from cluster.jobs import JobFile, find_job
from cluster.recipes import load_recipe
from env.errors import UserError

ROOT = Path(__file__).parents[2]


def test_the_shipped_job_file_as_the_sdk_takes_it() -> None:
    from ray.job_submission import JobSubmissionClient

    recipe = ROOT / "recipes" / "tiny.yaml"
    job = JobFile.read(ROOT / "ray_job.yaml")
    arguments = job.arguments(load_recipe(recipe), recipe, ["seed=1", "name=a b"])
    assert arguments["entrypoint"] == "atommem train recipes/tiny.yaml --resume --set seed=1 --set 'name=a b'"
    assert arguments["runtime_env"]["working_dir"] == str(ROOT)
    assert arguments["metadata"]["run"] == "tiny"
    assert set(arguments) <= set(inspect.signature(JobSubmissionClient.submit_job).parameters)


def test_a_recipe_outside_the_working_dir_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: r\nmodel: m\n")
    with pytest.raises(UserError, match=r"r.yaml lies outside .*working_dir"):
        JobFile.read(ROOT / "ray_job.yaml").arguments(load_recipe(tmp_path / "r.yaml"), tmp_path / "r.yaml", [])


def test_a_wrong_job_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("entrypoint: x\nentrypoint_cpus: 1\n")
    with pytest.raises(UserError, match="job.yaml is no job file: .*entrypoint_cpus"):
        JobFile.read(path)


def test_a_job_is_found_by_the_runs_name() -> None:
    ended, going = True, False
    assert find_job({}, "tiny") == (None, "tiny")
    assert find_job({"tiny": going, "other": going}, "tiny") == ("tiny", "tiny")
    assert find_job({"tiny": ended}, "tiny") == (None, "tiny.2")
    assert find_job({"tiny": ended, "tiny.2": going}, "tiny") == ("tiny.2", "tiny.2")
    assert find_job({"tiny": ended, "tiny.2": ended}, "tiny") == (None, "tiny.3")


def test_no_cluster_there_is_said_in_one_line(tmp_path: Path) -> None:
    from cluster.jobs import submit

    recipe, nobody = ROOT / "recipes" / "tiny.yaml", "http://127.0.0.1:1"
    with pytest.raises(UserError, match=f"--address {nobody}: no Ray dashboard answers there"):
        submit(load_recipe(recipe), recipe, [], address=nobody, job_file=ROOT / "ray_job.yaml", follow=False)
