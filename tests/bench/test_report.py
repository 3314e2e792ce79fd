"""Tests the content of the report, and its behaviour in a browser."""

import json
import re
import shutil
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from episode_records import episode
from rich.console import Console

from synthfm_bench import cli
from synthfm_bench.analysis.aggregate import make_board
from synthfm_bench.execution.run import run_suite
from synthfm_bench.plan import make_plan
from synthfm_bench.report import html as report
from synthfm_bench.report.gallery import choose, make_gallery
from synthfm_bench.report.html import write_report
from synthfm_bench.report.html_tables import board_table
from synthfm_bench.report.reproduction import reproduction_steps
from synthfm_bench.results.episode_result import episodes_of
from synthfm_bench.results.merge import join_runs
from synthfm_bench.results.run_directory import Run, read_run
from synthfm_bench.results.step_record import as_lines, read_steps, results_hash
from synthfm_bench.suite import FileData, Suite, SyntheticData, load_suite, parse_suite, with_choices
from synthfm_env.errors import InputError
from synthfm_env.volumes import Volume, save_volume

pytest.importorskip("jinja2", reason="needs the extra report")
pytest.importorskip("plotly", reason="needs the extra report")

QUIET = Console(stderr=True, quiet=True)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_MS = 300_000  # a loaded machine is no failure


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A finished run with a failing segmenter, on images, volumes and a file of the user."""
    folder = tmp_path_factory.mktemp("report")
    label = np.zeros((8, 24, 24), dtype=np.int16)
    label[2:6, 3:12, 3:12] = 1
    label[2:6, 14:22, 14:22] = 4
    save_volume(Volume((label * 50).astype(np.float32), label), folder / "scan.nii.gz", folder / "truth.nii.gz")
    suite = Suite(
        name="tiny",
        segmenters=("toys:Ball", "toys:FailsAtThirdClick"),
        clickers=("random", "ritm-3d-v1"),
        clicks=4,
        data=(
            SyntheticData(kind="synthetic", name="volumes", shape=(8, 32, 32), cases=4),
            FileData(kind="files", name="own", image=folder / "scan.nii.gz", label=folder / "truth.nii.gz"),
        ),
    )
    return run_suite(suite, make_plan(suite), out=folder / "run", workers=1, console=QUIET)


@pytest.fixture(scope="module")
def page_path(played):
    return write_report(played.folder, join_runs([played.folder]), played.rows, QUIET, trusted=True)


@pytest.mark.slow
def test_the_gallery_replays_exactly_what_was_recorded(played):
    cards = make_gallery(played.rows, join_runs([played.folder]).runs, QUIET, trusted=True)
    chosen = choose(played.rows)
    assert [card.episode.episode_id for card in cards] == [episode.episode_id for _, _, episode in chosen]
    assert {card.episode.clicker for card in cards} == {"ritm-3d-v1"}
    for card in cards:
        assert card.film.same
        recorded = [step.dice for step in card.episode.steps if step.mask_sha256]
        assert list(card.film.dices) == recorded
        assert len(card.film.planes) == 3
        for plane in card.film.planes:
            assert re.search(r'<path class="truth" d="M[\d.]', plane)
            assert plane.count('<g class="step"') == plane.count("<circle") == len(recorded)
    assert any("Ended in model_error at click 3" in card.note for card in cards)


def test_best_median_and_worst_are_by_the_primary_figure():
    scores = [0.3, 0.9, 0.5, 0.1, 0.7]
    records = [s for i, d in enumerate(scores) for s in episode([d], budget=1, case_id=str(i))]
    found = choose(make_board(episodes_of(records)))
    assert [(place, one.steps[0].dice) for place, _, one in found] == [("best", 0.9), ("median", 0.5), ("worst", 0.1)]
    (only,) = choose(make_board(episodes_of(episode([0.5], budget=1))))
    assert only[0] == "the only one"


@pytest.mark.slow
def test_what_cannot_be_replayed_becomes_a_card_that_says_why(played, tmp_path):
    shutil.copytree(played.folder, tmp_path / "run")
    about = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    about["suite"]["data"][1]["image"] = "gone.nii.gz"
    (tmp_path / "run" / "run.json").write_text(json.dumps(about))
    joined = join_runs([tmp_path / "run"])
    cards = make_gallery(make_board(joined.episodes), joined.runs, QUIET, trusted=True)
    notes = [card.note for card in cards if card.episode.data_id == "own"]
    assert len(notes) == 4
    assert all("could not be replayed here: gone.nii.gz: no such file" in note for note in notes)
    assert all(card.film for card in cards if card.episode.data_id == "volumes")


@pytest.mark.slow
def test_an_image_that_changed_is_not_drawn(played, tmp_path):
    shutil.copytree(played.folder, tmp_path / "run")
    steps = tmp_path / "run" / "steps.jsonl"
    steps.write_text(re.sub(r'"image_sha256":"\w{8}', '"image_sha256":"00000000', steps.read_text(encoding="utf-8")))
    joined = join_runs([tmp_path / "run"])
    cards = make_gallery(make_board(joined.episodes), joined.runs, QUIET, trusted=True)
    assert all(card.film is None and "not the one that was played" in card.note for card in cards)


def test_headings_stand_over_their_figures(played):
    group = [row for row in played.rows if row.data_id == "volumes"]
    table = board_table(group)
    for row, cells in zip(group, table.rows, strict=True):
        found = {heading: cell for (heading, _), cell in zip(table.headings, cells, strict=True)}
        assert found["segmenter"].text == row.segmenter
        for column in row.columns:
            estimate = row.estimate(column)
            assert found[column.name].value == (None if estimate is None else estimate.mean)
        assert found["rank"].text in ("1", "2")
        assert found["failed"].value == sum(row.failures.values())


def test_the_suite_in_the_report_plays_the_same_again(played):
    run = read_run(played.folder)
    found = reproduction_steps(run)
    assert parse_suite(tomllib.loads(found.suite), "again") == parse_suite(run.about["suite"], "played")
    assert found.commands == ("synthfm bench tiny.toml", f"synthfm verify {played.folder} --trust-plugins")


@pytest.mark.parametrize(
    ("choices", "command"),
    [
        ({}, "synthfm bench quick"),
        ({"seed": 7}, "synthfm bench quick --seed 7"),
        ({"segmenters": ("geodesic", "other=a:B")}, "synthfm bench quick --segmenter geodesic --segmenter other=a:B"),
        ({"clickers": ("random",), "seed": 3}, "synthfm bench quick --clicker random --seed 3"),
        ({"cases": 2}, "synthfm bench quick.toml"),
    ],
)
def test_the_command_names_a_packaged_suite(tmp_path, choices, command):
    suite = with_choices(load_suite("quick"), **choices)
    found = reproduction_steps(Run(tmp_path, {"suite": suite.model_dump(mode="json")}, ()))
    assert found.commands[0] == command


def test_names_and_messages_cannot_break_out_of_the_page(tmp_path):
    evil = "</script><script>alert(1)</script>"
    records = [
        *episode([0.5, 0.5], budget=2, model=f"a{evil}"),
        *episode([0.0], budget=2, model="b", outcome="model_error", error=evil),
    ]
    suite = {"name": "x", "description": evil, "segmenters": ["b"], "clickers": ["random"], "clicks": 2, "seed": 0}
    data = [{"kind": "synthetic", "name": "synthetic", "shape": [4, 16, 16], "cases": 1}]
    about = {"run_id": "run", "status": "finished", "episodes": 2, "suite": suite | {"data": data, "targets": [0.8]}}
    (tmp_path / "run.json").write_text(json.dumps(about))
    with (tmp_path / "steps.jsonl").open("w") as file:
        file.write(as_lines(records))
    joined = join_runs([tmp_path])
    text = write_report(tmp_path, joined, make_board(joined.episodes), QUIET).read_text(encoding="utf-8")
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_the_page_names_no_other_file_and_no_site(page_path):
    text = page_path.read_text(encoding="utf-8")
    ours = text.replace(
        (Path(__import__("plotly").__file__).parent / "package_data/plotly.min.js").read_text(encoding="utf-8"), ""
    )
    assert "http://" not in ours
    assert "https://" not in ours
    assert set(re.findall(r'(?:src|href)="([^"]{0,5})', ours)) <= {"data:", "#boar", "#curv", "#pair", "#part"} | {
        "#gall",
        "#fail",
        "#agai",
    }


def synthfm(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["synthfm", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def test_the_command_writes_the_report_of_one_run_into_its_folder(played, tmp_path, monkeypatch, capsys):
    shutil.copytree(played.folder, run := tmp_path / "run")
    assert synthfm(monkeypatch, "report", run) == 0
    out = capsys.readouterr().out
    assert f"report: {run}/report.html" in out
    assert "Dice@4" in out
    assert {path.name for path in run.iterdir()} >= {"report.html", "steps.parquet", "pairs.csv", "leaderboard.md"}


def test_the_command_joins_runs_and_refuses_other_click_rules(played, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(played.folder, "one")
    shutil.copytree(played.folder, "two")
    steps = Path("two/steps.jsonl")
    steps.write_text(steps.read_text(encoding="utf-8").replace("toys:FailsAtThirdClick", "toys:Ball2"))
    assert synthfm(monkeypatch, "report", "one", "two") == 1
    assert "two: its records do not give the results hash" in capsys.readouterr().err
    shutil.rmtree("runs")
    about = json.loads(Path("two/run.json").read_text(encoding="utf-8"))
    Path("two/run.json").write_text(json.dumps(about | {"results_hash": results_hash(read_steps(steps))}))
    assert synthfm(monkeypatch, "report", "one", "two") == 0
    out = capsys.readouterr().out
    assert "note: 12 episodes are in more than one run, with the same results, and count once." in out
    (joined,) = Path("runs").iterdir()
    assert joined.name.startswith("tiny-joined-")
    assert "toys:Ball2" in (joined / "leaderboard.md").read_text(encoding="utf-8")
    steps.write_text(re.sub(r'"protocol_hash":"\w{8}', '"protocol_hash":"00000000', steps.read_text(encoding="utf-8")))
    assert synthfm(monkeypatch, "report", "one", "two") == 2
    assert "do not share a board: the click rule random has hash" in capsys.readouterr().err


def test_without_the_extra_the_command_says_how_to_get_it(played, tmp_path, monkeypatch, capsys):
    shutil.copytree(played.folder, run := tmp_path / "run", ignore=shutil.ignore_patterns("report.html"))
    monkeypatch.setattr(report, "find_spec", lambda name: None if name == "plotly" else object())
    assert synthfm(monkeypatch, "report", run) == 0
    assert "report.html and steps.parquet need plotly: pip install 'synthfm_env[report]'" in capsys.readouterr().out
    assert not (run / "report.html").exists()
    with pytest.raises(InputError, match="need plotly"):
        write_report(run, join_runs([run]), played.rows, QUIET, trusted=True)


def test_the_command_refuses_what_is_no_run(tmp_path, monkeypatch, capsys):
    assert synthfm(monkeypatch, "report", tmp_path) == 2
    assert "name the folder of a run" in capsys.readouterr().err


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is missing")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with playwright.sync_playwright() as driver:
        found = path or driver.chromium.executable_path
        if not Path(found).exists():
            pytest.skip(f"no browser to open the report in: none of {', '.join(BROWSERS)} is installed")
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"], timeout=PATIENCE_MS)
        yield started
        started.close()


class Opened:
    """The report in a browser, with everything it complained about or asked for."""

    def __init__(self, browser, path: Path, width: int) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.page.set_default_timeout(PATIENCE_MS)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url.partition(":")[0]))
        self.page.goto(path.as_uri())


@pytest.fixture(scope="module")
def desktop(browser, page_path):
    opened = Opened(browser, page_path, 1280)
    yield opened
    opened.page.close()


def column(page, table: str, heading: str) -> list[str]:
    """Return the texts of a column as they stand."""
    script = """([table, heading]) => {
        const found = document.querySelector(table);
        const index = [...found.tHead.rows[0].cells].findIndex((cell) => cell.innerText.trim().startsWith(heading));
        return [...found.tBodies[0].rows].map((row) => row.cells[index].dataset.value);
    }"""
    return page.evaluate(script, [table, heading])


def test_the_page_shows_charts_and_pictures_and_asks_for_nothing(desktop):
    page = desktop.page
    assert page.locator(".chart .main-svg").count() >= 2
    assert page.locator(".chart .scatterlayer .trace").count() >= 8
    assert page.locator(".film svg image").count() >= 9
    assert "tiny" in page.title()
    assert desktop.complaints == []
    assert set(desktop.requests) <= {"file", "data", "blob"}
    assert desktop.requests.count("file") == 1


def test_a_click_on_a_heading_sorts_and_a_second_one_turns_it_round(desktop):
    table = "#board table"
    heading = desktop.page.locator(f"{table} th button", has_text="Dice@3").first
    heading.click()
    down = [float(value) for value in column(desktop.page, table, "Dice@3")]
    heading.click()
    up = [float(value) for value in column(desktop.page, table, "Dice@3")]
    assert len(set(down)) > 1
    assert down == sorted(down, reverse=True)
    assert up == sorted(down)
    desktop.page.locator(f"{table} th button", has_text="segmenter").first.click()
    names = column(desktop.page, table, "segmenter")
    assert names == sorted(names)
    assert desktop.complaints == []


def test_the_slider_shows_the_mask_after_each_click(desktop):
    film = desktop.page.locator(".film").first
    dices = film.get_attribute("data-dices").split()
    for clicks in (1, len(dices)):
        film.locator("input").fill(str(clicks))
        assert f"Dice {float(dices[clicks - 1]):.3f}" in film.locator("output").inner_text()
        shown = film.evaluate(
            "film => ['.step', '.click'].map((kind) => [...film.querySelector('svg').querySelectorAll(kind)]"
            ".filter((one) => one.style.display !== 'none').map((one) => one.dataset.step))"
        )
        assert shown == [[str(clicks)], [str(n) for n in range(1, clicks + 1)]]


def test_the_page_fits_a_phone(browser, page_path):
    phone = Opened(browser, page_path, 360)
    wide = phone.page.evaluate("document.documentElement.scrollWidth")
    smallest = phone.page.evaluate(
        "Math.min(...[...document.querySelectorAll('p, td, li')].map((e) => parseFloat(getComputedStyle(e).fontSize)))"
    )
    phone.page.close()
    assert wide <= 360
    assert smallest >= 12
    assert phone.complaints == []
