"""Every method on real records of every benchmark, with the real tokenizer, store and chunking; the model is scripted.

The data are not part of the project: put them in a folder and set ATOMMEM_DATA, else these tests are skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evaluation.catalog import make_suite
from evaluation.methods import METHODS

from .scripted import ENV, play

DATA = Path(os.environ.get("ATOMMEM_DATA", Path(__file__).parents[2] / "shared" / "data"))
SUITES = {
    "hotpotqa": {"data": "hotpotqa/hotpot_dev_distractor_sample.json.gz", "docs": 50, "questions": 3},
    "2wikimultihopqa": {"data": "2wikimultihopqa/2wikimultihopqa_dev_sample.json.gz", "docs": 50, "questions": 3},
    "musique": {"data": "musique/musique_ans_dev_sample.jsonl.gz", "docs": 50, "questions": 3},
    "locomo": {"data": "locomo/locomo10.json.gz"},
    "longmemeval": {"data": "longmemeval/longmemeval_oracle_sample.json.gz"},
}
LONG = ENV.model_copy(update={"chunk_tokens": 4096, "chunk_boundary": "token", "max_reads": 0})

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no data in {DATA}; set ATOMMEM_DATA")


@pytest.fixture(scope="module", params=SUITES)
def suite(request):
    options = SUITES[request.param]
    return make_suite(request.param, {**options, "data": str(DATA / options["data"])})


@pytest.mark.parametrize("method", [name for name in METHODS if name != "mem0"])
async def test_it_runs_to_the_end_and_the_gold_answer_scores(suite, method):
    [task] = suite.tasks(1, seed=1)
    golds = iter(question.answers[0] for question in task.questions)

    def say(prompt: str, call: int) -> str:
        asked = "ask :" in prompt
        return f"<answer>{next(golds)}</answer>" if asked else "a few words"

    trajectory, _ = await play(method, task, say, LONG, window=30_000)
    assert trajectory.failure is None, trajectory.failure
    assert len(trajectory.answers) == len(task.questions)
    for question, answer in zip(task.questions, trajectory.answers, strict=True):
        scores = suite.scores(answer.answer, question)
        assert scores["em"] == 1.0 and scores.get("official", 1.0) == pytest.approx(1.0)
