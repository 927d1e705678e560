"""Each method against a scripted model: which calls it makes, what it stores, what it shows at the question."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from env.errors import UserError
from evaluation.catalog import find_method
from evaluation.evidence import explain
from evaluation.methods import METHODS
from evaluation.methods.mem0 import Mem0
from rollout.record import trajectory_to_json

from .scripted import ENV, play, task

ADA, BOB, CITY = "Ada Lopez works at Acrona.", "Kai Weber works at Calyx.", "Acrona is based in Oslo."
HOBBY = "Kai Weber likes chess."
ANSWER = "<answer>Acrona</answer>"


def kinds(trajectory):
    return [[op.kind for op in turn.record.operations] for turn in trajectory.turns]


def shown(trajectory):
    return [content for _, content in trajectory.turns[-1].record.retrieved]


@pytest.mark.parametrize("name", [name for name in METHODS if name != "mem0"])
async def test_every_method_answers_through_the_same_episode(name):
    trajectory, _ = await play(name, task(ADA, BOB, CITY), lambda prompt, call: ANSWER)
    assert trajectory.failure is None
    assert [answer.answer for answer in trajectory.answers] == ["Acrona"]
    assert trajectory.answers[0].scores["em"] == 1.0
    assert trajectory.turns[-1].record.phase == "question"
    assert trajectory.turns[-1].cached_tokens == 3
    assert len(explain(trajectory_to_json(trajectory))) == 1


async def test_memagent_overwrites_its_notes_and_answers_from_them_alone():
    outputs = ["Ada works at Acrona", "x y z", ANSWER]
    trajectory, prompts = await play("memagent", task(ADA, BOB, BOB), lambda prompt, call: outputs[call])
    assert "(none)" in prompts[0] and ADA in prompts[0] and "Where does Ada Lopez work?" in prompts[0]
    assert "Ada works at Acrona" in prompts[1]
    assert "notes : x y z" in prompts[2] and "memory" not in prompts[2]
    assert kinds(trajectory) == [["scratchpad"], ["scratchpad"], ["answer"]]
    assert trajectory.metrics["retrievals"] == 0
    # The answer was in the notes until they were written anew.
    outputs[2] = "<answer>Oslo</answer>"
    wrong, _ = await play("memagent", task(ADA, BOB, BOB), lambda prompt, call: outputs[call])
    [why] = explain(trajectory_to_json(wrong))
    assert (why.cause, "step 2" in why.text) == ("overwritten", True)


async def test_memagent_notes_are_cut():
    trajectory, _ = await play("memagent", task(ADA), lambda prompt, call: "Oslo " * 40 if call == 0 else ANSWER)
    assert len(trajectory.turns[1].record.scratchpad.split()) == ENV.scratchpad_tokens


@pytest.mark.parametrize("name", ["rag", "rag-bm25", "rag-hybrid"])
async def test_rag_shows_the_documents_nearest_to_the_question(name):
    trajectory, prompts = await play(name, task(HOBBY, BOB, ADA, CITY), lambda *_: ANSWER, options={"documents": 1})
    assert len(trajectory.turns) == 1  # no call while reading
    assert shown(trajectory) == [ADA]
    assert [op.text for op in trajectory.turns[0].record.before] == [HOBBY, BOB, ADA, CITY]
    assert trajectory.metrics["retrievals"] == 1


async def test_bm25_shows_only_what_shares_a_word():
    trajectory, _ = await play("rag-bm25", task(HOBBY, BOB, ADA, CITY), lambda *_: ANSWER)
    assert HOBBY not in shown(trajectory) and CITY not in shown(trajectory)


async def test_an_index_counts_as_memory_in_the_error_analysis():
    two_hops = task(HOBBY, CITY, ADA, BOB, ask="In which city does Ada Lopez work?", gold="Oslo")
    wrong, _ = await play("rag", two_hops, lambda *_: "<answer>Bern</answer>", options={"documents": 1})
    assert [why.cause for why in explain(trajectory_to_json(wrong))] == ["not retrieved"]


async def test_full_context_shows_everything_that_fits_and_counts_the_rest():
    trajectory, _ = await play("full-context", task(ADA, BOB, CITY), lambda *_: ANSWER)
    assert shown(trajectory) == [f"{ADA}\n\n{BOB}", CITY] and trajectory.metrics["retrieved_cut"] == 0
    many = task(*[ADA] * 40)
    cut, _ = await play("full-context", many, lambda *_: ANSWER, window=100)
    words = sum(len(text.replace(".", " .").split()) for text in shown(cut))
    assert cut.metrics["retrieved_cut"] == 40 * 6 - words > 0


async def test_a_text_that_cannot_fit_fails_at_the_task_boundary():
    trajectory, _ = await play("memagent", task(" ".join([ADA] * 2)), lambda *_: ANSWER, window=20)
    assert trajectory.failure is not None
    assert (trajectory.failure.boundary, "env.chunk_tokens" in trajectory.failure.message) == ("task", True)


async def test_a_mem_describes_links_and_evolves_its_notes():
    def say(prompt, call):
        return [
            json.dumps({"keywords": ["Ada"], "context": "work", "tags": ["people"]}),
            json.dumps({"keywords": ["Acrona"], "context": "place", "tags": ["company"]}),
            "Sure: " + json.dumps({"links": [1, 9], "tags": ["firm"], "neighbours": [{"number": 1, "context": "job"}]}),
            ANSWER,
        ][call]

    config = ENV.model_copy(update={"chunk_tokens": 6, "top_k": 1})
    trajectory, prompts = await play("a-mem", task(ADA, CITY), say, config)
    assert kinds(trajectory) == [["create"], [], ["create", "update"], ["answer"]]
    created = trajectory.turns[2].record.operations[0].text
    assert created == f"{CITY}\ncontext: place\nkeywords: Acrona\ntags: firm"
    # Found: Ada's note, by the question; entry 2 links to it, not the other way round.
    assert shown(trajectory) == [f"{ADA}\ncontext: job\nkeywords: Ada\ntags: people"]
    assert "1: Ada Lopez works at Acrona." in prompts[2]
    by_link, _ = await play("a-mem", task(ADA, CITY, ask="In which city is Acrona based?", gold="Oslo"), say, config)
    assert shown(by_link)[0].startswith(CITY) and shown(by_link)[1].startswith(ADA)


async def test_a_mem_goes_on_when_the_model_writes_no_json():
    trajectory, _ = await play("a-mem", task(ADA, BOB, CITY), lambda prompt, call: "{oops " + ANSWER)
    assert trajectory.failure is None and len(shown(trajectory)) == 2


async def test_generative_agents_rate_reflect_and_weigh_three_scores():
    def say(prompt, call):
        return ["10", "say 9", "Who works where?\n- Why?", "Ada is a colleague.\n2. ", "insight", ANSWER][call]

    config = ENV.model_copy(update={"chunk_tokens": 6, "top_k": 1})
    trajectory, prompts = await play(
        "generative-agents", task(ADA, CITY), say, config, options={"threshold": 19.0}
    )
    # Two ratings; the second passes the threshold: questions, then insights for each of the two.
    assert kinds(trajectory) == [["create"], ["create"], [], ["create"], ["create"], ["answer"]]
    assert "1: Ada Lopez works at Acrona." in prompts[2]
    assert [op.text for op in trajectory.turns[3].record.operations] == ["Ada is a colleague."]
    # Ada: recency 0.995 of the newest scaled to 0 or 1, importance 1, relevance 1: it must win.
    assert shown(trajectory) == [ADA]
    assert trajectory.metrics["retrievals"] == 3


def test_unknown_names_and_options_are_answered_with_what_there_is():
    with pytest.raises(UserError, match="unknown method 'memagnt'; did you mean memagent"):
        find_method("memagnt", {})
    with pytest.raises(UserError, match="method 'rag' has no option 'docs'; it has: documents"):
        find_method("rag", {"docs": 3})


@pytest.mark.parametrize("folder", ["methods", "suites"])
def test_methods_and_suites_are_short(folder):
    files = sorted((Path(__file__).parents[2] / "evaluation" / folder).glob("*.py"))
    assert {file.name: n for file in files if (n := len(file.read_text().splitlines())) > 80} == {}


@pytest.mark.skipif(Mem0.unavailable() is not None, reason=str(Mem0.unavailable()))
async def test_mem0_asks_the_episodes_model_and_keeps_its_own_store():
    fact = "Ada works at Acrona"
    said = [{"facts": [fact]}, {"memory": [{"id": "0", "text": fact, "event": "ADD"}]}]  # extract, then decide
    outputs = [*map(json.dumps, said), ANSWER]
    trajectory, prompts = await play("mem0", task(ADA, BOB), lambda prompt, call: outputs[call], window=100_000)
    assert trajectory.failure is None, trajectory.failure
    assert ADA in prompts[0] and fact in prompts[1] and fact in prompts[2]
    assert kinds(trajectory) == [[], ["create"], ["answer"]] and shown(trajectory) == [fact]
    assert trajectory.metrics["retrievals"] == 2  # for the new fact, and for the question


def test_a_method_that_cannot_run_says_why(monkeypatch):
    monkeypatch.setenv("ATOMMEM_MEM0_PYTHON", sys.executable)
    Mem0.unavailable.cache_clear()
    reason = Mem0.unavailable()
    Mem0.unavailable.cache_clear()
    assert reason is None or ("No module named 'mem0'" in reason and "ATOMMEM_MEM0_PYTHON" in reason)
