"""The report as a reader gets it: one page that needs nothing, from whole, unfinished and hostile runs."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from env.errors import UserError
from evaluation.drawing import moving_average
from evaluation.plots import PLOTS
from evaluation.report import duration, write_report
from evaluation.viewer import spread, viewer_data

from .conftest import make_episode, metric_row

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \u2028 <!-- {{ 7 * 7 }}"


class Page(HTMLParser):
    """Elements, the text of the data element, and the visible text."""

    def __init__(self, markup):
        super().__init__()
        self.elements, self.data, self.text, self._inside = [], "", "", None
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = (
            dict(attrs).get("id") if tag == "script" else tag if tag in ("style", "script") else None
        )

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "data":
            self.data += data
        elif self._inside != "style":
            self.text += data


def page_of(run):
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_a_finished_run_has_everything(make_run):
    run = make_run(episodes={3: [make_episode("Oslo"), make_episode("Rome", index=1)]})
    page = page_of(run)
    assert {path.stem for path in (run / "plots").iterdir()} == {plot.name for plot in PLOTS}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (run / "plots").iterdir())
    assert sum(tag == "svg" for tag, _ in page.elements) == len(PLOTS)
    assert "25.0%" in page.text and "90.0%" in page.text
    assert "Exact match rose by 65.0 points" in page.text
    assert "2-hop" in page.text and "models/tiny" in page.text and "Unfinished" not in page.text


def test_the_page_asks_the_network_for_nothing(make_run):
    run = make_run(episodes={3: [make_episode("Oslo")]})
    page = page_of(run)
    assert not any(
        tag in ("link", "img", "iframe") or "src" in attributes for tag, attributes in page.elements
    )
    assert [a for t, a in page.elements if t == "a" and not a["href"].startswith("#")] == []
    assert "url(http" not in run.joinpath("report.html").read_text() and "@import" not in page.text
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_hostile_texts_stay_texts(make_run):
    run = make_run(
        episodes={3: [make_episode(HOSTILE, HOSTILE, text=HOSTILE, question=HOSTILE)]},
        config={"name": HOSTILE, "model": HOSTILE},
    )
    page = page_of(run)
    assert [attributes.get("id") for tag, attributes in page.elements if tag == "script"] == ["data", None]
    assert not any(tag == "img" for tag, _ in page.elements)
    assert (
        HOSTILE in page.text
    )  # escaped in the heading, so read back whole; nothing was evaluated as a template
    data = json.loads(page.data)
    assert HOSTILE in data["strings"] and data["iterations"][0]["episodes"][0]["task"] == HOSTILE
    assert "<" not in page.data and "\u2028" not in page.data


def test_an_unfinished_run_says_so(make_run):
    page = page_of(make_run(iterations=1, evaluations=((0, 5),)))
    assert "Unfinished: iteration 1 of 3." in page.text
    assert "The evaluation after training is not there yet." in page.text
    assert json.loads(page.data)["iterations"] == []


def test_a_run_with_hardly_any_metrics(make_run):
    run = make_run(iterations=0, evaluations=())
    (run / "metrics.jsonl").write_text('{"step": 1, "em": 0.5, "entropy": NaN}\n{"step": 2, "e')
    page = page_of(run)
    assert [path.name for path in (run / "plots").iterdir()] == ["reward.png"]
    assert "The starting policy was not evaluated" in page.text and "1 iteration" in page.text


def test_writing_again_replaces_the_page(make_run):
    run = make_run(iterations=1, evaluations=())
    first = write_report(run).read_text()
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(metric_row(2)) + "\n")
    assert write_report(run).read_text() != first
    assert not list(run.glob(".*"))


def test_what_is_no_run_is_refused(make_run, tmp_path):
    with pytest.raises(UserError, match="not a run directory"):
        write_report(tmp_path)
    with pytest.raises(UserError, match="no finished iteration"):
        write_report(make_run(iterations=0))


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("metrics.jsonl", '{"step": 1}\nnonsense\n{"step": 2}\n', "metrics.jsonl, line 2: not JSON"),
        ("metrics.jsonl", "[1]\n", "expected a JSON object, found list"),
        ("metrics.jsonl", '{"em": 1}\n', "needs a number 'step'"),
        ("config.yaml", "a: [", "config.yaml: not YAML"),
        ("evaluations/step_000000.json", '{"step": 0}', "step_000000.json: not an evaluation"),
        ("trajectories/step_000001.jsonl", "{}}\n", "step_000001.jsonl, line 1: not JSON"),
    ],
)
def test_broken_files_are_named(make_run, name, text, message):
    run = make_run()
    (run / name).write_text(text)
    with pytest.raises(UserError, match=message):
        write_report(run)
    assert not (run / "report.html").exists()


def test_viewer_data_interns_texts_and_follows_the_memory(make_run):
    run = make_run(episodes={3: [make_episode("Oslo"), make_episode("Rome", index=1)]})
    data = viewer_data([run / "trajectories" / "step_000003.jsonl"])
    assert (data["shown"], data["total"], len(data["strings"])) == (2, 2, len(set(data["strings"])))
    right, wrong = data["iterations"][0]["episodes"]
    assert (right["answers"][0]["right"], wrong["answers"][0]["cause"]) == (True, "misread")
    change = right["steps"][0]["changes"][0]
    assert (change["kind"], change["id"], data["strings"][change["text"]]) == (
        "create",
        1,
        "Ada lives in Oslo.",
    )
    assert right["steps"][0]["text"] == wrong["steps"][0]["text"]


def test_a_small_budget_keeps_first_and_last(make_run):
    run = make_run(episodes={i: [make_episode("Oslo", f"t{i}", text=f"{i}" * 1000)] for i in range(1, 6)})
    data = viewer_data(sorted((run / "trajectories").iterdir()), budget=4000)
    assert [iteration["step"] for iteration in data["iterations"]] == [1, 5]
    assert (data["shown"], data["total"]) == (2, 5)


def test_spread_covers_the_range_at_any_length():
    assert spread([0, 1, 2, 3, 4]) == [0, 4, 2, 1, 3]
    assert [spread(list(range(n))) for n in (0, 1, 2)] == [[], [0], [0, 1]]


def test_moving_average_by_hand():
    assert moving_average([0.0, 3.0, 6.0, 0.0], 1) == [1.5, 3.0, 3.0, 3.0]
    assert moving_average([1.0, 2.0], 0) == [1.0, 2.0]


@pytest.mark.parametrize("seconds, text", [(12, "12 s"), (125.4, "2 min 05 s"), (7500, "2 h 05 min")])
def test_duration(seconds, text):
    assert duration(seconds) == text
