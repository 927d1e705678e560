"""SIGKILL at random moments, of the process that reads: nothing acknowledged is lost, nothing is applied twice."""

import asyncio
import multiprocessing
import os
import random
import signal

import pytest

from cluster.serving.agent import SessionAgent
from cluster.serving.database import Database
from cluster.serving.repository import Repository
from cluster.serving.views import commit_view
from env.embedding import BatchedEmbedder, make_embedder
from tests.serving.scripted import ScriptedPolicy

KILLS, SESSIONS, CHUNKS = 20, 4, 150
WHO = ("Anna", "Leo", "Zoe", "Uma")  # one session each


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql")
    return f"sqlite+aiosqlite:///{tmp_path}/atommem.db"


def read_all(config, tokenizer, sessions, told) -> None:
    """A replica's whole life: read every session's document at once, and tell each committed chunk."""

    async def one(agent, session) -> None:
        async for event in agent.read("t", session, 1):
            if event.name == "chunk":
                told.send_bytes(f"{session} {event.data.model_dump_json()}\n".encode())

    async def all_() -> None:
        database = Database(config.database)
        policy = ScriptedPolicy(tokenizer)
        agent = SessionAgent(config, database, tokenizer, BatchedEmbedder(make_embedder(config.env.embedder)), policy)
        await asyncio.gather(*(one(agent, session) for session in sessions))

    asyncio.run(all_())
    os._exit(0)  # nothing of the parent's is to be cleaned up here


async def test_a_reader_killed_at_random_moments_applies_every_chunk_once(config, database, make_agent, tokenizer):
    limits = config.limits.model_copy(update={"document_tokens": 10_000})
    config = config.model_copy(update={"limits": limits})
    agent, repository = make_agent(), Repository(database, "t")
    agent._config = config
    sessions = [(await repository.create_session(who, {"focus": []}, 10)).id for who in WHO]
    for who, session in zip(WHO, sessions, strict=True):
        text = "\n".join(f"{who} Berg works at {i % 100} ." for i in range(CHUNKS))
        assert (await agent.add_document("t", session, text, "", None, False)).chunks == CHUNKS
    await database.close()  # forked processes must not share its connections

    random.seed(7)
    fork, told, kills = multiprocessing.get_context("fork"), set(), 0
    while True:
        receiver, sender = fork.Pipe(duplex=False)
        process = fork.Process(target=read_all, args=(config, tokenizer, sessions, sender))
        process.start()
        sender.close()
        if kills < KILLS:
            await asyncio.to_thread(receiver.poll, 60)  # at work
            await asyncio.sleep(random.uniform(0.05, 0.6))
            os.kill(process.pid, signal.SIGKILL)
        lines = await asyncio.to_thread(_drain, receiver)
        told.update(lines)
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        if process.exitcode == 0:
            break
    assert kills > 3

    for who, session in zip(WHO, sessions, strict=True):
        log = [commit_view(row) for row in await repository.log(session, 0, 1000)]
        assert [(commit.version, commit.chunk) for commit in log] == [(i + 1, i) for i in range(CHUNKS)]
        kept = {f"{session} {commit.model_dump_json()}\n".encode() for commit in log}
        assert {line for line in told if line.startswith(session.encode())} == kept
        _, rows = await repository.list_entries(session, 0, 1000)
        assert [(row.entry_id, row.content) for row in rows] == [
            (i + 1, f"{who} Berg works at {i % 100} .") for i in range(CHUNKS)
        ]
    print(f"{kills} kills, {len(told)} chunks told")


def _drain(receiver) -> list[bytes]:
    lines = []
    try:
        while True:
            lines.append(receiver.recv_bytes())
    except (EOFError, OSError):  # OSError: killed in the middle of a message
        return lines
