"""Reading, asking and editing: every unit is committed once, whole or not at all, and any replica can go on."""

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from cluster.serving.errors import Conflict, Moved, NotFound, Unavailable, VersionMismatch
from cluster.serving.repository import Repository, Work
from cluster.serving.tables import metadata
from env.memory import MemoryStore
from env.operations import Create, Delete, Scratchpad, Update
from tests.serving.conftest import FACTS

TEXT = " ".join(FACTS)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """Every test of this file on both databases."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql")
    return f"sqlite+aiosqlite:///{tmp_path}/atommem.db"


@pytest.fixture
def repository(database):
    return Repository(database, "t")


@pytest.fixture
async def session(repository) -> str:
    return (await repository.create_session("s", {"focus": []}, 10)).id


async def read(agent, session, number=1, after=0):
    return [event async for event in agent.read("t", session, number, after)]


async def contents(repository, session):
    _, rows = await repository.list_entries(session, 0, 100)
    return [row.content for row in rows]


async def test_migrations_make_the_tables_that_the_code_uses(database):
    async with database.read() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), metadata)
        )
    assert differences == []


async def test_a_document_is_read_chunk_by_chunk_and_told_after_each_commit(agent, repository, session):
    document = await agent.add_document("t", session, TEXT, "facts", None, False)
    assert (document.number, document.chunks, document.read, document.state) == (1, 3, 0, "pending")
    events = await read(agent, session)
    assert [event.name for event in events] == ["document", "chunk", "chunk", "chunk", "document"]
    chunk = events[2].data
    assert (chunk.version, chunk.document, chunk.chunk, chunk.entries, chunk.model) == (2, 1, 1, 2, "atommem:1")
    assert [(o.kind, o.text, o.entry_id) for o in chunk.operations] == [
        ("create", FACTS[1], 2),
        ("scratchpad", FACTS[1], None),
    ]
    assert chunk.usage.total_tokens == chunk.usage.prompt_tokens + chunk.usage.completion_tokens > 20
    assert (events[-1].data.state, events[-1].data.read) == ("done", 3)
    assert await contents(repository, session) == list(FACTS)


async def test_an_answer_names_entries_with_their_source(agent, session):
    await agent.add_document("t", session, TEXT, "", None, False)
    await read(agent, session)
    events = [event async for event in agent.ask("t", session, "Where does Leo Kim work ?")]
    assert [event.name for event in events] == ["reading", "answer"]
    answer = events[-1].data
    assert answer.answer == FACTS[1]
    assert answer.version == 4
    best = answer.entries[0]
    assert (best.content, best.source.document, best.source.chunk) == (FACTS[1], 1, 1)
    assert answer.scratchpad == FACTS[2]


async def test_a_listener_who_comes_back_gets_what_he_missed_and_nothing_twice(make_agent, session):
    agent = make_agent()
    await agent.add_document("t", session, TEXT, "", None, False)
    stream = agent.read("t", session, 1)
    seen = [await anext(stream) for _ in range(2)]
    await stream.aclose()
    later = await read(make_agent(), session, after=seen[-1].data.version)
    assert [event.data.chunk for event in later if event.name == "chunk"] == [1, 2]


async def test_a_failed_engine_leaves_no_trace_and_reading_goes_on_at_the_first_uncommitted_chunk(
    make_agent, repository, session, policy
):
    agent = make_agent()
    await agent.add_document("t", session, TEXT, "", None, False)
    stream = agent.read("t", session, 1)
    await anext(stream)
    await anext(stream)
    policy.broken = True
    with pytest.raises(Unavailable, match="no policy engine answers"):
        await anext(stream)
    assert await contents(repository, session) == [FACTS[0]]
    policy.broken = False
    await read(make_agent(), session)
    assert await contents(repository, session) == list(FACTS)
    assert (await repository.session(session)).version == 3


async def test_a_cancelled_step_is_aborted_and_commits_nothing(agent, repository, session, policy):
    await agent.add_document("t", session, TEXT, "", None, False)
    policy.gate.clear()
    task = asyncio.create_task(read(agent, session))
    await policy.called.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert policy.cancelled == 1
    policy.gate.set()
    assert (await repository.session(session)).version == 0
    await read(agent, session)
    assert await contents(repository, session) == list(FACTS)


async def test_two_replicas_that_read_at_once_apply_every_chunk_once(make_agent, repository, session):
    first, second = make_agent(), make_agent()
    await first.add_document("t", session, TEXT, "", None, False)
    one, two = await asyncio.gather(read(first, session), read(second, session))
    for events in (one, two):
        assert [event.data.chunk for event in events if event.name == "chunk"] == [0, 1, 2]
    assert await contents(repository, session) == list(FACTS)
    assert (await repository.session(session)).version == 3


async def test_a_writer_that_is_behind_changes_nothing(repository, session, config):
    store = MemoryStore(64)
    await repository.commit(session, 0, Work("edit", store))
    store.write_scratchpad("late")
    with pytest.raises(Moved):
        await repository.commit(session, 0, Work("edit", store))
    assert (await repository.session(session)).scratchpad == ""


async def test_documents_are_read_in_order_whoever_asks(agent, repository, session):
    for fact in FACTS:
        await agent.add_document("t", session, fact, "", None, False)
    await read(agent, session, number=3)
    assert await contents(repository, session) == list(FACTS)
    assert [row.state for row in await repository.list_documents(session)] == ["done"] * 3


async def test_a_cancelled_document_is_passed_over_until_it_is_resumed(agent, repository, session):
    await agent.add_document("t", session, TEXT, "", None, False)
    await agent.add_document("t", session, FACTS[0], "", None, False)
    await repository.set_document(session, 1, state="cancelled")
    await read(agent, session, number=2)
    assert await contents(repository, session) == [FACTS[0]]
    assert [event.data.state for event in await read(agent, session)] == ["cancelled", "cancelled"]
    await repository.set_document(session, 1, state="pending", background=True)
    await agent.start("t", session)
    while (await repository.document(session, 1)).state != "done":
        await asyncio.sleep(0.01)
    assert await contents(repository, session) == [FACTS[0], *FACTS]


async def test_the_watch_takes_up_what_a_dead_replica_left(config, make_agent, repository, session):
    dead, other = make_agent(), make_agent()
    await dead.add_document("t", session, TEXT, "", None, background=True)
    other.background._resume_after_s = 0.05
    watch = asyncio.create_task(other.background.watch())
    while (await repository.document(session, 1)).state != "done":
        await asyncio.sleep(0.01)
    watch.cancel()
    assert await contents(repository, session) == list(FACTS)


async def test_the_same_key_reads_once_and_with_another_text_is_refused(agent, repository, session):
    first = await agent.add_document("t", session, TEXT, "", "k", False)
    again = await agent.add_document("t", session, TEXT, "", "k", False)
    assert first.number == again.number == 1
    with pytest.raises(Conflict, match="another text"):
        await agent.add_document("t", session, FACTS[0], "", "k", False)
    both = await asyncio.gather(*(agent.add_document("t", session, FACTS[1], "", "new", False) for _ in range(5)))
    assert {document.number for document in both} == {2}


async def test_edits_are_the_users_and_the_past_can_be_seen(agent, repository, session):
    await agent.edit("t", session, Create("one"))
    await agent.edit("t", session, Create("two"))
    commit = await agent.edit("t", session, Update(1, "uno"), expected=2)
    assert (commit.kind, commit.model, commit.operations[0].kind) == ("edit", None, "update")
    await agent.edit("t", session, Scratchpad("note"))
    await agent.edit("t", session, Delete(2))
    with pytest.raises(VersionMismatch, match="at version 5, not 2"):
        await agent.edit("t", session, Delete(1), expected=2)
    with pytest.raises(NotFound, match="entry 2, which does not exist"):
        await agent.edit("t", session, Delete(2))
    states = []
    for version in range(6):
        scratchpad, rows = await repository.past(session, version, 0, 10)
        states.append((scratchpad, {row.entry_id: row.content for row in rows}))
    assert states == [
        ("", {}),
        ("", {1: "one"}),
        ("", {1: "one", 2: "two"}),
        ("", {1: "uno", 2: "two"}),
        ("note", {1: "uno", 2: "two"}),
        ("note", {1: "uno"}),
    ]
    with pytest.raises(NotFound, match="there is no 6 yet"):
        await repository.past(session, 6, 0, 10)


async def test_a_fork_goes_its_own_way(agent, repository, session):
    await agent.add_document("t", session, TEXT, "", None, False)
    await read(agent, session)
    fork = await repository.fork_session(session, "copy", 10)
    await agent.edit("t", fork.id, Delete(1))
    await agent.edit("t", session, Create("more"))
    assert await contents(repository, fork.id) == list(FACTS[1:])
    assert await contents(repository, session) == [*FACTS, "more"]
    assert len(await repository.log(fork.id, 0, 10)) == 4
    found = await agent.search("t", fork.id, "Leo Kim works", 1)
    assert [entry.content for entry in found.entries] == [FACTS[1]]


async def test_another_tenant_finds_nothing(agent, repository, session, database):
    await agent.add_document("t", session, TEXT, "", None, False)
    await read(agent, session)
    other = Repository(database, "u")
    for call in (
        other.session(session),
        other.document(session, 1),
        other.list_documents(session),
        other.chunk(session, 1, 0),
        other.list_entries(session, 0, 10),
        other.past(session, 1, 0, 10),
        other.log(session, 0, 10),
        other.fork_session(session, None, 10),
        other.set_document(session, 1, state="cancelled"),
        other.commit(session, 3, Work("edit", MemoryStore(64))),
        other.delete_session(session),
        agent.search("u", session, "Anna", 1),
        agent.edit("u", session, Delete(1)),
    ):
        with pytest.raises(NotFound):
            await call
    assert await other.entries_by_id(session, [1]) == {}
    assert await other.next_chunk(session) is None
    assert await other.list_sessions(10, None) == []


async def test_a_deleted_session_is_gone_from_the_files(agent, repository, session, tmp_path, database):
    if not database.sqlite:
        pytest.skip("PostgreSQL clears its files when it vacuums")
    await agent.add_document("t", session, "Anna Berg secretword .", "", None, False)
    await agent.edit("t", session, Create("secretword"))
    vector = (await repository.load(session, 64))[1]["vectors"].tobytes()
    files = list(tmp_path.glob("atommem.db*"))
    assert any(b"secretword" in file.read_bytes() for file in files)
    await repository.delete_session(session)
    for file in tmp_path.glob("atommem.db*"):
        assert b"secretword" not in file.read_bytes(), file
        assert vector not in file.read_bytes(), file
    with pytest.raises(NotFound):
        await agent.search("t", session, "secret", 1)
