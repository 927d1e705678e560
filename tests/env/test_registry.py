"""The registry's world: answers follow from the text, difficulty is a parameter, the teacher's skill is its score."""

import asyncio

import pytest

from cluster.tiny_model import vocabulary
from env.config import RegistryConfig, TeacherConfig
from env.registry import NOWHERE, RELATIONS, RegistrySource
from env.teacher import Teacher, read_facts, read_question

PERFECT = TeacherConfig(
    attend=1, store=1, store_asked=1, store_distractor=0, look_up=1, revise=1, idle_read=0, note=0
)


def solve(task, question):
    """Follow the links through the document's last statements, independently of the generator's own bookkeeping."""
    last = {}
    for sentence in task.units:
        (fact,) = read_facts(sentence)
        last[fact.subject, fact.relation] = NOWHERE if fact.change == "left" else fact.object
    subject, hops = read_question(question.text)
    for relation in RELATIONS[:hops]:
        subject = last[subject, relation]
        if subject == NOWHERE:
            break
    return subject


@pytest.mark.parametrize("hops", [[1], [2], [1, 2, 3]])
def test_the_answer_follows_from_the_last_statements(hops):
    source = RegistrySource(RegistryConfig(hops=hops, questions_max=4, change_rate=0.7), 3, "train")
    for index in range(60):
        task = source[index]
        assert 1 <= len(task.questions) <= 4
        for question in task.questions:
            assert question.answers == (solve(task, question),)
            assert int(question.kind[0]) in hops


def test_tasks_are_a_function_of_seed_and_index_and_eval_is_apart():
    config = RegistryConfig()
    assert RegistrySource(config, 1, "train")[5] == RegistrySource(config, 1, "train")[5]
    sources = [RegistrySource(config, seed, split) for seed in (1, 2) for split in ("train", "eval")]
    texts = {source[index].units for source in sources for index in range(20)}
    assert len(texts) == 80


def test_difficulty_is_a_parameter():
    def sentences(**values):
        return [s for i in range(30) for s in RegistrySource(RegistryConfig(**values), 1, "train")[i].units]

    assert not any(" now " in s or "has left" in s for s in sentences(change_rate=0))
    assert any("has left" in s for s in sentences(change_rate=1, leave_rate=1))
    assert not any(" now " in s for s in sentences(change_rate=1, leave_rate=1))
    assert not any("likes" in s for s in sentences(distractor_rate=0))
    assert len(sentences(people=40, companies=30)) > 2 * len(sentences())


def test_the_vocabulary_of_the_tiny_policy_covers_the_world(tokenizer):
    unknown = tokenizer.encode("certainlynotaword")[0]
    for index in range(50):
        task = RegistrySource(RegistryConfig(hops=[1, 2, 3]), 1, "train")[index]
        assert unknown not in tokenizer.encode(" ".join(task.units) + " ".join(q.text for q in task.questions))
    assert len(vocabulary()) == len(set(vocabulary()))


async def play(make_env, config, skill, episodes):
    async def episode(index):
        env = make_env(config)
        teacher = Teacher(skill, index)
        await env.reset(RegistrySource(config.registry, 1, "train")[index])
        done = False
        while not done:
            _, _, terminated, truncated, _ = await env.step(teacher.act(env.view))
            done = terminated or truncated
        return env.result()

    return await asyncio.gather(*(episode(index) for index in range(episodes)))


async def test_a_perfect_teacher_solves_a_world_without_change(make_env, config):
    still = config.model_copy(update={"registry": RegistryConfig(change_rate=0), "top_k": 4})
    results = await play(make_env, still, PERFECT, 40)
    assert [result.reward for result in results] == [1.0] * 40
    assert all(result.metrics["ops/invalid"] == 0 for result in results)


async def test_skill_decides_the_score_and_updates_matter(make_env, config):
    changing = config.model_copy(
        update={"registry": RegistryConfig(change_rate=1, hops=[1]), "chunk_tokens": 8, "top_k": 4}
    )

    async def mean(**skill):
        results = await play(make_env, changing, PERFECT.model_copy(update=skill), 60)
        return sum(result.reward for result in results) / len(results)

    perfect, never_revises, forgets = await mean(), await mean(revise=0.0), await mean(attend=0.1)
    assert perfect > 0.95
    assert never_revises < 0.3
    assert forgets < perfect - 0.3


async def test_a_diligent_teacher_attends_to_every_chunk_of_some_episodes(make_env, config):
    async def created(diligent):
        skill = PERFECT.model_copy(update={"attend": 0.0, "diligent": diligent})
        return [result.metrics["ops/create"] for result in await play(make_env, config, skill, 30)]

    assert set(await created(0.0)) == {0.0}
    assert min(await created(1.0)) > 0
    assert 0 < sum(count > 0 for count in await created(0.5)) < 30
