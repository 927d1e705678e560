"""Results on disk, resume, tables, comparison and judging, from scripted episodes."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from env.config import JudgeConfig
from env.errors import UserError
from env.types import Question, Task
from evaluation.cells import Cell, task_hash
from evaluation.config import EvaluationConfig, PriceConfig, SuiteConfig, VariantConfig
from evaluation.environments import MethodSpec
from evaluation.judging import judge_rows
from evaluation.matrix_report import write_matrix_report
from evaluation.paired import compare_runs
from evaluation.results import Results
from evaluation.rows import rows_of
from evaluation.suites.registry import Registry
from evaluation.tables import tables
from rollout.config import SamplingConfig
from rollout.record import trajectory_to_json
from rollout.types import Failure, Trajectory

from ..local_server import serve
from .conftest import make_episode
from .scripted import ENV

SUITE = Registry()
CONFIG = EvaluationConfig(
    tasks=4,
    suites=[SuiteConfig(suite="registry")],
    variants=[VariantConfig(), VariantConfig(method="rag")],
    price=PriceConfig(input=2.0, cached_input=1.0, output=10.0),
)


def cell(variant="atommem", method="atommem", **changes) -> Cell:
    env = ENV.model_copy(update=changes)
    return Cell("registry", variant, MethodSpec(method, {}, env), SamplingConfig(temperature=0), "hub/model")


def task(index: int, text: str = "Ada lives in Oslo.") -> Task:
    return Task(f"t{index}", (text,), (Question("Where does Ada live?", ("Oslo",), f"{1 + index % 2}-hop"),))


def fill(results: Results, of: Cell, answers: list[str | None]) -> None:
    for index, answer in enumerate(answers):
        add(results, of, index, make_episode(answer, f"t{index}", index))


def add(results: Results, of: Cell, index: int, trajectory: Trajectory) -> None:
    rows = rows_of(of, SUITE, task(index), trajectory, f"{of.key}/{index:05d}")
    results.add(of.key, index, rows, trajectory_to_json(trajectory))


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Four tasks: AtomMem answers 3, RAG 1 (the first)."""
    made = Results(tmp_path / "run")
    cells = [cell(), cell("rag", "rag")]
    made.claim("name: run\n", cells, {"registry": [task(i) for i in range(4)]})
    fill(made, cells[0], ["Oslo", "Oslo", "Rome", "Oslo"])
    fill(made, cells[1], ["Oslo", "Rome", "Rome", None])
    made.write_parquet()
    return made


def test_one_row_per_question_with_everything_of_its_task(results):
    rows = pq.read_table(results.directory / "results.parquet").to_pylist()
    assert len(rows) == 8
    first = rows[0]
    assert [first[name] for name in ("answer", "gold", "em", "official", "judge")] == ["Oslo", ["Oslo"], 1, None, None]
    assert (first["tokens_in"], first["tokens_out"], first["calls"], first["seconds"]) == (9, 6, 3, 1.5)
    assert first["trace"] == "registry/atommem/00000" and first["task_hash"] == task_hash(task(0))
    assert [row["cause"] for row in rows[4:]] == ["right", "misread", "misread", "unanswered"]
    assert results.read("registry/rag", 1)["trajectory"]["answers"][0]["answer"] == "Rome"


def test_finished_tasks_are_not_run_again_but_lost_engines_are(results):
    for index, boundary in ((4, "engine"), (5, "environment")):
        add(results, cell(), index, Trajectory(f"t{index}", 0, [], failure=Failure(boundary, "why")))
    assert results.finished("registry/atommem") == {0, 1, 2, 3, 5}
    assert results.finished("registry/other") == set()
    failed = results.read("registry/atommem", 5)["rows"]
    assert [(row["failure"], row["em"], row["answer"]) for row in failed] == [("environment", 0.0, None)]


def test_a_kill_while_writing_leaves_no_half_file(results, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        fill(results, cell(), ["Rome"])
    assert results.read("registry/atommem", 0)["rows"][0]["answer"] == "Oslo"
    assert results.indices("registry/atommem") == [0, 1, 2, 3]


def test_other_settings_or_tasks_are_not_mixed(results):
    tasks = {"registry": [task(i) for i in range(4)]}
    results.claim("again", [cell()], {"registry": tasks["registry"][:2]})  # fewer tasks, one cell: still the same
    assert len(results.manifest()["tasks"]["registry"]) == 4 and "registry/rag" in results.manifest()["cells"]
    with pytest.raises(UserError, match=r"registry/atommem with other settings \(env.top_k: 2 -> 9\)"):
        results.claim("x", [cell(top_k=9)], tasks)
    with pytest.raises(UserError, match="results of suite 'registry' on other tasks"):
        results.claim("x", [cell()], {"registry": [task(0, "Another text.")]})


def test_a_suite_may_have_fewer_tasks_than_the_others_never_more():
    assert [CONFIG.tasks_of(SuiteConfig(suite="registry", tasks=tasks)) for tasks in (None, 2, 9)] == [4, 2, 4]


def test_tables_by_hand(results):
    [table] = tables(results.rows(), CONFIG)
    atommem, rag = table.lines
    assert (table.headline, atommem.score.mean, rag.score.mean) == ("em", 0.75, 0.25)
    assert (atommem.difference, rag.difference.interval.mean, rag.difference.questions) == (None, -0.5, 4)
    # Two of four tasks differ by -1: swaps give means 0 (2 of 4) and +-0.5 (2 of 4): p = 2/4.
    assert rag.difference.p_value == pytest.approx(0.5)
    assert rag.losses["misread"] == 2 and rag.losses["unanswered"] == 1 and sum(rag.losses.values()) == 3
    assert atommem.kinds == {"1-hop": (0.5, 2), "2-hop": (1.0, 2)}
    # Per task 9 tokens in (none cached) and 6 out: (9 * 2 + 6 * 10) / 1e6
    assert rag.costs["price"] == pytest.approx(78e-6)
    assert atommem.operations["create"] == pytest.approx(1 / 3)


def test_a_method_of_which_every_task_failed_has_no_score_but_a_reason(results):
    failure = Failure("task", "the prompt exceeds the window of 448 tokens by 222")
    for index in range(4):
        add(results, cell("rag", "rag"), index, Trajectory(f"t{index}", 0, [], failure=failure))
    rag = tables(results.rows(), CONFIG)[0].lines[1]
    assert rag.score is None and rag.difference is None and rag.tasks == 0
    assert rag.unavailable == f"all of its tasks failed, the first one so: {failure.message}"
    page = write_matrix_report(results.directory, CONFIG, tables(results.rows(), CONFIG)).read_text()
    assert f"cannot run here: {rag.unavailable}" in page


def test_the_report_links_a_loss_to_its_step(results):
    page = write_matrix_report(results.directory, CONFIG, tables(results.rows(), CONFIG)).read_text()
    assert 'href="#at-1-1-3">2</a>' in page  # the second cell, its second episode, the answering step
    assert {path.name for path in (results.directory / "plots").iterdir()} == {"scores.png", "losses.png", "costs.png"}
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert [cell["name"] for cell in data["iterations"]] == ["registry/atommem", "registry/rag"]


def test_compare_pairs_the_same_questions_and_refuses_other_data(results, tmp_path):
    other = Results(tmp_path / "other")
    other.claim("x", [cell()], {"registry": [task(i) for i in range(4)]})
    fill(other, cell(), ["Oslo", "Oslo", "Oslo", "Oslo"])
    other.write_parquet()
    pairs = compare_runs(str(results.directory), str(other.directory))
    [em] = [pair for pair in pairs if pair.metric == "em"]
    assert (em.before, em.old.mean, em.new.mean, em.difference.interval.mean) == ("atommem", 0.75, 1.0, 0.25)
    named = compare_runs(f"{results.directory}:rag", f"{other.directory}:atommem")
    assert {(pair.before, pair.after) for pair in named} == {("rag", "atommem")}
    with pytest.raises(UserError, match="no suite and variant in common"):
        compare_runs(f"{results.directory}:rag", f"{other.directory}:rag")

    changed = Results(tmp_path / "changed")
    changed.claim("x", [cell()], {"registry": [task(0), task(1, "Ada lives in Rome.")]})
    fill(changed, cell(), ["Oslo", "Oslo"])
    changed.write_parquet()
    with pytest.raises(UserError, match="hashes differ"):
        compare_runs(str(results.directory), str(changed.directory))
    with pytest.raises(UserError, match="holds no evaluation"):
        compare_runs(str(tmp_path), str(changed.directory))


def verdicts(words):
    """A judge that says the next word at every request."""
    said = iter(words)
    return lambda body: (200, {
        "id": "x", "object": "chat.completion", "created": 0, "model": "j",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": next(said)}}],
    })  # fmt: skip


def judged_row(answer: str | None = "Oslo") -> dict:
    return {
        "suite": "registry", "question": "Where?", "gold": ["Oslo"], "kind": "", "answer": answer,
        "judge": None, "judge_error": None,
    }  # fmt: skip


def test_a_judge_that_answers_nonsense_is_asked_again_and_never_counts_as_zero():
    good, bad, silent = judged_row(), judged_row(), judged_row(None)
    with serve(verdicts(["hmm", "CORRECT", "hmm", "well"])) as server:
        config = JudgeConfig(base_url=server.url, model="j", retries=1)
        judge_rows([good], {"registry": SUITE}, config)
        judge_rows([bad, silent], {"registry": SUITE}, config)
        assert len(server.requests) == 4
    assert (good["judge"], good["judge_error"]) == (1.0, None)
    assert bad["judge"] is None and "expected CORRECT or INCORRECT" in bad["judge_error"]
    assert silent["judge"] == 0.0


def test_rows_without_a_verdict_are_left_out_of_the_mean_and_counted(results):
    rows = results.rows()
    for row, verdict in zip(rows, [1.0, None, 0.0, 1.0] * 2, strict=True):
        row["judge"], row["judge_error"] = verdict, None if verdict is not None else "timed out"
    suite = SuiteConfig(suite="longmemeval", name="registry", options={"data": "x"})
    config = CONFIG.model_copy(update={"suites": [suite], "judge": JudgeConfig(base_url="http://x", model="j")})
    line = tables(rows, config)[0].lines[0]
    assert (line.score.mean, line.unjudged) == (pytest.approx(2 / 3), 1)
