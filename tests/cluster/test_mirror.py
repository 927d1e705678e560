"""Checkpoints copied to an fsspec URL, and a run that goes on from there on another machine."""

from pathlib import Path

import fsspec
import pytest

from cluster.config import RunConfig
from cluster.mirror import Mirror
from cluster.rundir import RunDir
from env.errors import UserError


def run_at(place: Path) -> RunDir:
    return RunDir.create(RunConfig.model_validate({"name": "r", "model": "m", "run_dir": str(place)}))


def commit(run: RunDir, step: int) -> Path:
    made = run.checkpoints / f"made{step}"
    (made / "trainer").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(bytes([step]) * 1000)
    (made / "trainer" / "loop.json").write_text("{}")
    run.append_metrics({"step": step})
    return run.commit(step, made, keep=2)


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://bucket/runs" if request.param == "memory" else f"file://{tmp_path}/elsewhere"


def test_a_run_goes_on_where_nothing_of_it_was(url: str, tmp_path: Path) -> None:
    run, mirror = run_at(tmp_path / "here"), Mirror(url, "r", keep=2)
    for step in (1, 2, 3):
        mirror.copy(run, commit(run, step))
        assert mirror.wait() is None
    files, root = fsspec.core.url_to_fs(f"{url}/r/checkpoints")
    assert sorted(Path(path).name for path in files.ls(root, detail=False)) == ["LATEST", "step_000002", "step_000003"]
    there = RunDir(tmp_path / "there")
    assert mirror.fetch(there)
    assert there.latest() == there.checkpoint(3)
    assert (there.checkpoint(3) / "model.safetensors").read_bytes() == bytes([3]) * 1000
    assert (there.checkpoint(3) / "trainer" / "loop.json").is_file()
    assert there.metrics.read_text() == run.metrics.read_text()
    assert there.config.read_text() == run.config.read_text()
    assert not mirror.fetch(there), "what is there is left as it is"


def test_a_copy_that_was_cut_short_is_not_the_last_whole_one(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, mirror = run_at(tmp_path / "here"), Mirror(url, "cut", keep=2)
    mirror.copy(run, commit(run, 1))
    assert mirror.wait() is None
    second = commit(run, 2)
    monkeypatch.setattr(mirror, "_put", _no_space)
    mirror.copy(run, second)
    assert (mirror.wait() or "").endswith("no space there")
    there = RunDir(tmp_path / "there")
    assert mirror.fetch(there) and there.latest() == there.checkpoint(1)


def _no_space(file: Path, relative: Path) -> None:
    if relative.suffix == ".safetensors":
        raise OSError("no space there")


def test_without_a_copy_there_is_nothing_to_fetch(url: str, tmp_path: Path) -> None:
    assert not Mirror(url, "unknown", keep=1).fetch(RunDir(tmp_path / "there"))


def test_a_url_of_no_known_kind_is_refused() -> None:
    with pytest.raises(UserError, match="loop.mirror 'nowhere://x' cannot be used: .*nowhere"):
        Mirror("nowhere://x", "r", keep=1)
