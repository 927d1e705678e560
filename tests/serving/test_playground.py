"""The playground in a real browser, over the real HTTP application, agent and database; the policy is scripted."""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn

from cluster.serving.agent import SessionAgent
from cluster.serving.config import HttpConfig, ServingConfig
from cluster.serving.database import Database
from cluster.serving.deployments import Deployments
from cluster.serving.http.application import make_app
from cluster.serving.http.context import Context
from cluster.serving.keys import Keys
from env.embedding import BatchedEmbedder, make_embedder
from env.tokenizer import ChatTokenizer
from tests.serving.keeper import Keeper

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)"),
]
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
TIMEOUT_MS = 60_000
TEXT = """Anna Berg works at Solaria .
Leo Kim works at Nimbus .
Anna Berg now works at Nimbus .
Leo Kim left Nimbus ."""
EVIL = '<img src="x" onerror="window.hacked = true"><b>bold</b>'
expect = playwright.expect
expect.set_options(timeout=TIMEOUT_MS)


@dataclass
class Server:
    """An endpoint in a thread of its own."""

    config: ServingConfig
    tokenizer: ChatTokenizer
    counted: bool = False  # the policy waits for `permit`
    url: str = ""
    key: str = ""
    _up: threading.Event = field(default_factory=threading.Event)

    def permit(self, turns: int) -> None:
        """Let the policy take so many turns."""
        for _ in range(turns):
            self._loop.call_soon_threadsafe(self._permits.release)

    async def _serve(self) -> None:
        self._loop, self._permits = asyncio.get_running_loop(), asyncio.Semaphore(0)
        database = Database(self.config.database)
        await database.migrate()
        deployments = Deployments(database)
        await deployments.settle((await deployments.first(self.config.model)).version, "active")
        self.key = await Keys(database).create("tenant", admin=False)
        embedder = BatchedEmbedder(make_embedder(self.config.env.embedder))
        policy = Keeper(self.tokenizer, self._permits if self.counted else None)
        agent = SessionAgent(self.config, database, self.tokenizer, embedder, policy)
        app = make_app(Context(self.config, database, agent))
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
        serving = asyncio.create_task(self.server.serve())
        while not self.server.started:
            await asyncio.sleep(0.05)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}/"
        self._up.set()
        await serving
        await database.close()

    @contextmanager
    def running(self) -> Iterator[Server]:
        thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        thread.start()
        try:
            assert self._up.wait(120)
            yield self
        finally:
            self.server.should_exit = True
            thread.join(60)
        assert not thread.is_alive()


@pytest.fixture
def make_server(config, tokenizer) -> Iterator[Callable[..., Server]]:
    running = []

    def make(counted: bool = False, **changes) -> Server:
        running.append(Server(config.model_copy(update=changes), tokenizer, counted).running())
        return running[-1].__enter__()

    yield make
    for server in running:
        server.__exit__(None, None, None)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=180_000)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that reports what it logs and loads: the test fails if it fails, or asks anybody else."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if "Security Policy" in message.text else None)
    page.on("request", lambda request: wrong.append(request.url) if "//127.0.0.1:" not in request.url else None)
    yield page
    context.close()
    assert wrong == []


def open_session(page, server: Server, name: str = "report", **fields: str) -> None:
    page.goto(server.url)
    page.get_by_role("button", name="New session").click()
    page.get_by_label("Name").fill(name)
    for label, value in fields.items():
        page.get_by_label(label.replace("_", " ")).fill(value)
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("#session")).to_contain_text(name.strip())


def read(page, text: str) -> None:
    page.get_by_label("Paste a text").fill(text)
    page.get_by_role("button", name="Read it").click()


def entry(page, text: str):
    return page.locator("#entries > li").filter(has_text=text)


def has_class(name: str) -> re.Pattern[str]:
    return re.compile(rf"(^|\s){name}(\s|$)")


def test_entries_appear_change_and_vanish_chunk_by_chunk(page, make_server) -> None:
    server = make_server(counted=True)
    open_session(page, server, Questions_to_keep_in_view="Where does Anna Berg work ?")
    expect(page.locator("#options")).to_contain_text("Where does Anna Berg work ?")
    read(page, TEXT)
    server.permit(1)
    expect(entry(page, "Solaria")).to_have_class(has_class("create"))
    expect(page.locator("#documents")).to_contain_text("1 of 4 chunks")
    expect(page.locator("#documents").get_by_role("button", name="Stop")).to_be_visible()
    server.permit(1)
    expect(entry(page, "Leo Kim")).to_have_class(has_class("create"))
    expect(entry(page, "Solaria")).not_to_have_class(has_class("create"))
    server.permit(2)  # it reads, then it updates
    expect(entry(page, "Anna Berg now works")).to_have_class(has_class("update"))
    expect(entry(page, "Anna Berg").locator("del")).to_have_text("Anna Berg works at Solaria .")
    server.permit(2)
    expect(entry(page, "Leo Kim")).to_have_class(has_class("delete"))
    expect(page.locator("#scratchpad")).to_contain_text("Leo Kim left")
    expect(page.locator("#documents")).to_contain_text("done")
    expect(page.locator("#count")).to_have_text("1 entry")


def test_what_an_answer_rests_on_is_shown(page, make_server, tmp_path: Path) -> None:
    open_session(page, make_server())
    read(page, TEXT)
    expect(page.locator("#documents")).to_contain_text("done")
    page.get_by_label("Question", exact=True).fill("Where does Anna Berg work ?")
    page.get_by_role("button", name="Ask").click()
    answer = page.locator(".answer-card")
    expect(answer.locator(".said")).to_contain_text("Nimbus")
    expect(answer).to_contain_text("document 1, chunk 3")  # the one that rewrote it
    expect(entry(page, "Anna Berg")).to_have_class(has_class("marked"))
    expect(entry(page, "Anna Berg")).to_contain_text("used for the answer")
    page.screenshot(path=tmp_path / "light.png", full_page=True)
    entry(page, "Anna Berg").get_by_role("button", name="document 1, chunk 3").click()
    expect(page.locator("#place")).to_have_text("version 3 of 5")
    expect(page.locator("#happened")).to_contain_text("Anna Berg now works at Nimbus")


def test_entries_are_edited_by_hand_and_stay_text(page, make_server) -> None:
    open_session(page, make_server())
    page.get_by_label("A new entry by hand").fill(EVIL)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(entry(page, EVIL)).to_be_visible()
    expect(page.locator("#happened")).to_contain_text(EVIL)  # the log shows it too
    page.get_by_role("button", name="Edit entry 1").click()
    field = page.get_by_label("Content of entry 1")
    expect(field).to_be_focused()
    field.fill(f"changed {EVIL}")
    page.get_by_role("button", name="Save").click()
    expect(entry(page, f"changed {EVIL}")).to_have_class(has_class("update"))
    assert page.locator("main img, main b").count() == 0
    assert page.evaluate("window.hacked") is None
    page.get_by_role("button", name="Delete entry 1").click()
    expect(entry(page, "changed")).to_have_class(has_class("delete"))
    expect(page.locator("#count")).to_have_text("No entry.")


def test_the_scratchpad_is_rewritten_by_hand(page, make_server) -> None:
    open_session(page, make_server())
    page.get_by_role("button", name="Edit scratchpad").click()
    field = page.get_by_label("Scratchpad", exact=True)
    expect(field).to_be_focused()
    field.fill(EVIL)
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#scratchpad .text")).to_have_text(EVIL)
    expect(page.locator("#place")).to_have_text("version 1 of 1")
    page.get_by_role("button", name="Edit scratchpad").click()
    field.fill("")
    page.keyboard.press("Escape")  # as it was
    expect(page.locator("#scratchpad .text")).to_have_text(EVIL)
    page.keyboard.press("Enter")  # the button has the focus again
    field.fill("")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#scratchpad")).to_contain_text("Empty.")


def test_the_slider_shows_past_states_by_keyboard(page, make_server) -> None:
    open_session(page, make_server())
    read(page, TEXT)
    expect(page.locator("#documents")).to_contain_text("done")
    slider = page.get_by_role("slider", name="Version of the memory")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#past")).to_contain_text("As it was at version 2")
    expect(entry(page, "Solaria")).to_be_visible()
    expect(page.locator("#entries > li")).to_have_count(2)
    assert page.get_by_role("button", name="Edit entry 1").count() == 0  # what is past cannot be edited
    page.keyboard.press("Home")
    expect(page.locator("#count")).to_have_text("No entry.")
    page.get_by_role("button", name="Now", exact=True).click()
    expect(entry(page, "Anna Berg now works")).to_be_visible()
    page.reload()  # the address names the session
    expect(page.locator("#place")).to_have_text("version 4 of 4")


def test_problems_are_shown_in_place(page, make_server) -> None:
    open_session(page, make_server())
    page.get_by_label("Question", exact=True).fill("Where ?")
    page.get_by_role("button", name="Ask").click()
    problem = page.locator("#ask-problems").get_by_role("alert")
    expect(problem).to_contain_text("Conflict")
    expect(problem).to_contain_text("has read nothing yet")
    page.locator("#files").set_input_files({"name": "a.bin", "mimeType": "text/plain", "buffer": b"\xff\xfe\x00"})
    expect(page.locator("#read-problems")).to_contain_text("not UTF-8")
    page.locator("#read-problems").get_by_role("button", name="Close").click()
    expect(page.locator("#read-problems").get_by_role("alert")).to_have_count(0)


def test_a_key_is_asked_for_and_kept_in_the_tab_only(page, make_server) -> None:
    server = make_server(http=HttpConfig(keys=True))
    page.goto(server.url)
    field = page.get_by_label("API key")
    expect(field).to_be_focused()
    expect(page.get_by_role("alert")).to_contain_text("API key")
    field.fill(server.key)
    page.get_by_role("button", name="Use", exact=True).click()
    expect(page.locator("#options")).to_contain_text("No session yet")
    assert page.evaluate("Object.values(sessionStorage)") == [server.key]
    assert page.evaluate("localStorage.length + document.cookie.length") == 0


FOCUS = """() => {
  const node = document.activeElement, style = getComputedStyle(node);
  const ring = style.outlineStyle !== 'none' ? node : node.closest('label:focus-within');
  const box = node.getBoundingClientRect();
  return [node.id || node.textContent, ring && getComputedStyle(ring).outlineStyle !== 'none' && box.width > 0];
}"""


def test_everything_is_reached_by_tab_with_a_visible_focus(page, make_server) -> None:
    open_session(page, make_server())
    read(page, TEXT)
    expect(page.locator("#documents")).to_contain_text("done")
    page.evaluate("document.activeElement.blur()")
    seen = {}
    for _ in range(60):
        page.keyboard.press("Tab")
        name, visible = page.evaluate(FOCUS)
        seen[name] = visible
    wanted = {"session", "new", "fork", "delete", "theme", "back", "version", "text", "role", "files", "question"}
    wanted |= {"search", "content", "Edit", "Delete"}
    assert wanted <= set(seen)
    assert [name for name in wanted if not seen[name]] == []
    page.locator("#new").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("#new")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_light_and_dark(page, make_server, scheme: str, tmp_path: Path) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": 360, "height": 740})
    open_session(page, make_server(), name="a long name without an end " * 5)
    read(page, TEXT)
    expect(page.locator("#documents")).to_contain_text("done")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert entry(page, "Anna Berg").evaluate("node => getComputedStyle(node).animationName") == "none"
    ink, paper = (
        sum(map(int, re.findall(r"\d+", page.evaluate(f"getComputedStyle(document.body).{name}"))[:3]))
        for name in ("color", "backgroundColor")
    )
    assert (ink < paper) == (scheme == "light")
    page.screenshot(path=tmp_path / f"phone-{scheme}.png", full_page=True)
