"""report/: one page that a browser shows without a network, the same in other forms, and every figure traced."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from tiffin.artifact.files import sha256_file
from tiffin.cli.app import app
from tiffin.data.overlap import pixel_hash
from tiffin.errors import BadInput
from tiffin.records import Predictions, Record, Rounds, Stages, Subject, load_record
from tiffin.records.findings import Finding, GateResult, Outcome
from tiffin.report.charts import charts
from tiffin.report.gallery import gallery
from tiffin.report.markdown import as_markdown
from tiffin.report.model_card import licences, model_card
from tiffin.report.page import key_figures, page
from tiffin.report.sources import load_sources
from tiffin.report.story import tell
from tiffin.report.tables import HEADER, KEYS, as_csv, as_json, as_latex, table

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = ("<script>alert(1)</script>", "🍏 |pipe| `code`", "תפוח عربي", '"quote" & @name\n[x](y)')
PHOTOS = 1200


def answers(lost: int, photos: tuple[str, ...], classes: int = 4) -> Predictions:
    """Nine tenths right, of which so many are lost."""
    truth = np.arange(len(photos)) % classes
    top = np.where(np.arange(len(photos)) % 10 == 9, (truth + 1) % classes, truth)
    right = np.flatnonzero(top == truth)[:lost]
    top[right] = (truth[right] + 1) % classes
    logits = np.zeros((len(photos), classes), np.float32)
    logits[np.arange(len(photos)), (top + 1) % classes] = 1
    logits[np.arange(len(photos)), top] = 3
    return Predictions.from_logits(photos, truth, logits, "photos")


def rounds(median_ms: float) -> Rounds:
    rng = np.random.default_rng(int(100 * median_ms))
    blocks = tuple((median_ms * 1e6 * np.exp(rng.normal(0, 0.02, 30))).astype(np.int64) for _ in range(24))
    return Rounds(blocks, tuple(np.repeat(np.arange(8), 3).tolist()), tuple(range(24)))


NAMES = ("fp32", "int8")


def record(labels: tuple[str, ...] = HOSTILE, photos: tuple[str, ...] | None = None, names: tuple[str, str] = NAMES,
           lost: int = 3, ms: float = 3.0) -> Record:  # fmt: skip
    shown = photos or tuple(f"{index:064x}" for index in range(PHOTOS))
    subjects = tuple(
        Subject(name, artifact=str(number) * 64, precision=name[:4], size_bytes=(9 - 4 * number) * 10**6,
                cold_start_s=(0.3, 0.31), peak_bytes=10**8)
        for number, name in enumerate(names)
    )  # fmt: skip
    return Record(
        "bench", {"cpu": "x", "system": "Linux x86_64", "git_commit": "abc"}, subjects, {"seed": 0},
        {"name": "set", "kind": "photos", "role": "confirm", "count": len(shown), "labels": labels, "coarse": None},
        {names[0]: rounds(10.0), names[1]: rounds(ms)},
        {names[0]: answers(0, shown, len(labels)), names[1]: answers(lost, shown, len(labels))}, created="2026-01-01",
    )  # fmt: skip


def told(folder: Path, made: Record, **more: Any):  # type: ignore[no-untyped-def]
    return tell(load_sources([made.save(folder / "r.json")]), **more)


def in_full(folder: Path, made: Record, **more: Any) -> str:
    story = told(folder, made, **more)
    return page(story, *charts(story), gallery(story, 50))


# The answer


@pytest.mark.parametrize(
    ("lost", "ms", "words"),
    [
        (1, 3.0, "Ship int8, because it is proven"),
        (60, 3.0, "Nothing passes, because the only candidate is proven to lose"),
        (12, 3.0, "INCONCLUSIVE: nothing passes yet, because the only candidate is INCONCLUSIVE"),
        (1, 14.0, "Nothing passes, because the only candidate is as accurate but not proven faster than fp32"),
    ],
)
def test_the_first_line_is_the_answer(lost: int, ms: float, words: str, tmp_path: Path) -> None:
    story = told(tmp_path, record(lost=lost, ms=ms))
    assert story.answer.line.startswith(words), story.answer.line
    text = page(story, (), (), gallery(story, 10))
    assert text.index(story.answer.line.split(",")[0]) < text.index("<table")


def many(made: Record, count: int) -> Record:
    """The second row so many times, each another artifact."""
    first, second = made.subjects
    rows = [replace(second, name=f"{second.name} {number}", artifact=f"{number:064d}") for number in range(count)]
    return replace(
        made, subjects=(first, *rows),
        rounds={first.name: made.rounds[first.name], **{row.name: made.rounds[second.name] for row in rows}},
        predictions={first.name: made.predictions[first.name],
                     **{row.name: made.predictions[second.name] for row in rows}},
    )  # fmt: skip


@pytest.mark.parametrize(("count", "lost", "words"), [(1, 5, "Ship int8 0"), (20, 1, "20 rows tested together"),
                                                      (20, 5, "as accurate only if judged alone")])  # fmt: skip
def test_the_best_of_many_is_not_shipped_for_its_luck(count: int, lost: int, words: str, tmp_path: Path) -> None:
    assert words in told(tmp_path, many(record(lost=lost), count)).answer.line


def test_only_rows_of_its_record_are_said_to_be_slower(tmp_path: Path) -> None:
    made, other = many(record(lost=1), 2), record(names=("fp32", "int8 other"), ms=3.2)
    made = replace(made, rounds={**made.rounds, "int8 1": rounds(4.0)})
    other = replace(other, subjects=(other.subjects[0], replace(other.subjects[1], artifact="e" * 64)))
    paths = [one.save(tmp_path / f"{name}.json") for name, one in (("a", made), ("b", other))]
    assert tell(load_sources(paths)).answer.more == ("Proven faster than the 1 other row of its record that passes.",)


@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE])
def test_with_a_gate_the_answer_is_the_gates(outcome: Outcome, tmp_path: Path) -> None:
    found = Finding("int8", "flips", outcome, "19 % of answers differ", "fp32")
    code = {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.INCONCLUSIVE: 3}[outcome]
    story = told(tmp_path, record(), gate=GateResult(outcome, code, (found,), {"text": "[[rule]] # mine"}))
    line = story.answer.line
    assert line.startswith("Ship int8") is (outcome is Outcome.PASS)
    if outcome is Outcome.INCONCLUSIVE:
        assert "inconclusive" in (line + " ".join(story.answer.more)).lower() or "decid" in line
    text = page(story, (), (), gallery(story, 5))
    assert "[[rule]] # mine" in text and "19 % of answers differ" in text


@pytest.mark.parametrize("role", ["confirm", "select"])
def test_the_photos_role_is_named_and_those_of_choices_ship_nothing(role: str, tmp_path: Path) -> None:
    made = record(lost=1)
    answer = told(tmp_path, replace(made, data={**made.data, "role": role})).answer
    assert f"{role} photos" in answer.line and answer.line.startswith("Ship int8") is (role == "confirm")


def test_the_gate_answers_for_its_own_records_only(tmp_path: Path) -> None:
    path, found = record().save(tmp_path / "r.json"), Finding("int8", "flips", Outcome.PASS, "few", "fp32")
    for digest, good in ((sha256_file(path), True), ("0" * 64, False)):
        gate = GateResult(Outcome.PASS, 0, (found,), records=({"file": "good.json", "sha256": digest},))
        if good:
            assert tell(load_sources([path]), gate).answer.line.startswith("Ship int8")
        else:
            with pytest.raises(BadInput, match="about good.json"):
                tell(load_sources([path]), gate)


def test_the_gate_ranks_rows_of_one_machine(tmp_path: Path) -> None:
    here, there = record(ms=5.0), record(names=("other", "quick"), ms=2.0)
    there = replace(there, environment={**there.environment, "cpu": "y"})
    paths = [made.save(tmp_path / f"{name}.json") for name, made in (("a", here), ("b", there))]
    passing = tuple(Finding(name, "size", Outcome.PASS, "small") for name in ("int8", "fp32", "quick"))
    answer = tell(load_sources(paths), GateResult(Outcome.PASS, 0, passing)).answer
    assert (
        answer.row == "int8" and "of the 2 artifacts" in answer.line and "Not ranked with it: quick" in answer.more[0]
    )


def test_another_model_by_the_references_name_is_no_reference(tmp_path: Path) -> None:
    first, second = record(), record(lost=5)
    first = replace(first, subjects=first.subjects[:1], rounds={"fp32": first.rounds["fp32"]},
                    predictions={"fp32": first.predictions["fp32"]})  # fmt: skip
    other = replace(second.subjects[0], artifact="f" * 64)
    for fp32, known in ((second.subjects[0], True), (other, False)):
        made = replace(second, subjects=(fp32, second.subjects[1]))
        paths = [one.save(tmp_path / f"{name}.json") for name, one in (("a", first), ("b", made))]
        row = tell(load_sources(paths)).row("int8")
        assert row is not None and row.answered is not None
        assert [row.change is not None, row.speed is not None] == [known, known]


def test_memory_and_cold_start_are_of_the_record_that_tells_them(tmp_path: Path) -> None:
    timed = replace(record(), predictions={}, data={})
    bare = tuple(replace(subject, cold_start_s=(), peak_bytes=None) for subject in timed.subjects)
    scored = replace(record(), kind="score", rounds={}, subjects=bare)
    paths = [made.save(tmp_path / f"{made.kind}.json") for made in (scored, timed)]
    for order in (paths, paths[::-1]):
        story = tell(load_sources(order))
        cells = {key: cell for key, cell in zip(KEYS, table(story)[1], strict=True)}
        assert [cells[key].record for key in ("memory", "cold_start")] == ["bench.json"] * 2


def test_answers_and_latencies_of_two_precisions_are_two_rows(tmp_path: Path) -> None:
    made = record()
    asked = tuple(replace(subject, requested={"execution_precision": "bf16"}) for subject in made.subjects)
    paths = [replace(made, kind="score", rounds={}).save(tmp_path / "a.json"),
             replace(made, predictions={}, subjects=asked).save(tmp_path / "b.json")]  # fmt: skip
    assert [row.name for row in tell(load_sources(paths)).rows] == ["fp32", "fp32 (b.json)", "int8", "int8 (b.json)"]


def test_lanes_compare_under_throughput(tmp_path: Path) -> None:
    made = record()
    timed = {
        name: replace(found, regime="throughput", lanes=lanes,
                      sensors={"wall_s": np.array([block.sum() / 1e9 for block in found.blocks])})
        for (name, found), lanes in zip(made.rounds.items(), (1, 4), strict=True)
    }  # fmt: skip
    row = told(tmp_path, replace(made, rounds=timed)).row("int8")
    assert row is not None and row.speed is not None


# Figures and their sources


@pytest.mark.parametrize("launches", [8, 40])
def test_a_p99_is_bounded_by_launches_not_by_calls(launches: int, tmp_path: Path) -> None:
    rng, made = np.random.default_rng(0), record()
    biased = [1e6 * np.exp(rng.normal(0, 0.15) + rng.normal(0, 0.05, 100)) for _ in range(launches)]
    timed = Rounds(tuple(block.astype(np.int64) for block in biased), tuple(range(launches)))
    line = table(told(tmp_path, replace(made, rounds={**made.rounds, "int8": timed})))[1]
    cell, truth = line[KEYS.index("p99")], np.exp(np.hypot(0.15, 0.05) * 2.326)
    assert cell.high is None and "34 launches" in cell.how if launches < 34 else cell.high > truth


def test_every_figure_of_the_real_record_is_that_of_the_record(tmp_path: Path) -> None:
    path = RESULTS / "default.json"
    story, made = tell(load_sources([path])), load_record(path)
    body = json.loads(as_json(story, charts(story)[0], None))
    rows = {row["row"]["text"]: row for row in body["rows"]}
    assert set(rows) == {row.name for row in made.subjects if not row.reason or row.name in made.predictions}
    for name, row in rows.items():
        found = made.predictions[name]
        assert row["top_1"]["value"] == pytest.approx(100 * float((found.top[:, 0] == found.truth).mean()), abs=0.006)
        assert row["top_1"]["record"] == "default.json" and row["top_1"]["row"] == name
        assert row["size"]["value"] == pytest.approx(made.subject(name).size_bytes / 1e6, rel=0.05)
    read = list(csv.DictReader(io.StringIO(as_csv(story))))
    assert [row["row"] for row in read] == list(rows)
    assert float(read[0]["top_1"]) == pytest.approx(rows[read[0]["row"]]["top_1"]["value"])
    assert as_latex(story).count(r"\\") == len(rows) + 1


def test_names_of_others_stay_text_everywhere(tmp_path: Path) -> None:
    names = ("fp32", "int8 <img src=x onerror=alert(1)> {{ 7 }} \\input{x} =cmd()")
    story = told(tmp_path, record(names=names))
    drawn, missing = charts(story)
    found = gallery(story, 50)
    html = page(story, drawn, missing, found)
    assert "<script>alert" not in html and "<img src=x" not in html and "&lt;script&gt;alert(1)" in html
    md = as_markdown(story, drawn, found)
    table = next(part for part in md.split("## ") if part.startswith("Candidates"))
    assert "<" not in table and all(
        line.count("|") == table.splitlines()[2].count("|") for line in table.splitlines()[2:] if line
    )
    assert r"\input{x}" not in as_latex(story)
    card = model_card(story, licences(story, None, None))
    assert card.count("not stated") == 2 and "<img" not in card.split("---")[2]


def test_a_name_of_digits_stays_whole_in_a_picture(tmp_path: Path) -> None:
    names = ("lr0.001", 'lr0.002 role="x"')
    drawn = "".join(chart.wide + chart.narrow for chart in charts(told(tmp_path, record(names=names)))[0])
    texts = " ".join(re.findall(">([^<]+)<", drawn))
    assert names[0] in texts and names[1] in texts and not re.search(r"lr0\.00(?![12])", texts)


def test_markdown_and_the_card_show_names_as_they_are(tmp_path: Path) -> None:
    names = ("fp32", "a 🍏\x7f\u2028é")
    made = replace(record(names=names), data={**record().data, "name": "my_set"})
    story = tell(load_sources([made.save(tmp_path / "score_b.json")]))
    card = model_card(story, licences(story, None, None))
    assert r"score\_b.json (bench" in as_markdown(story, (), gallery(story, 5))
    assert r"my\_set" in card and r"- score\_b.json," in card  # in a code span its backslash would show
    assert yaml.safe_load(card.split("---")[1])["model-index"][0]["name"] == names[1]


def test_markdown_stays_below_its_bound_and_says_what_it_dropped(tmp_path: Path) -> None:
    story = tell(load_sources([RESULTS / "default.json"]))
    drawn, found = charts(story)[0], gallery(story, 100)
    whole = as_markdown(story, drawn, found)
    assert len(whole.encode()) < 60_000 and "Left out" not in whole
    small = as_markdown(story, drawn, found, 6_000)
    assert len(small.encode()) <= 6_000 and "Left out for room" in small and "Candidates" in small


def test_the_card_knows_the_shipped_weights_and_takes_what_is_stated() -> None:
    story = tell(load_sources([RESULTS / "default.json"]))
    assert "Klasson" in model_card(story, licences(story, None, None))
    assert "CC-BY-4.0" in model_card(story, licences(story, "CC-BY-4.0", None))
    assert model_card(story, licences(story, None, None)).startswith('---\nlicense: "apache-2.0"')


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        (None, ("unknown", None)),
        ("CC-BY-NC-4.0", ("cc-by-nc-4.0", None)),
        ("CC BY-NC 4.0", ("other", "CC BY-NC 4.0")),
        ("MIT (not to be sold)", ("other", "MIT (not to be sold)")),
    ],
)
@pytest.mark.parametrize("role", ["confirm", "select"])
def test_the_card_claims_no_more_than_was_stated_and_confirmed(
    stated: str | None, found: tuple[str, str | None], role: str, tmp_path: Path
) -> None:
    story = told(tmp_path, replace(record(), data={**record().data, "role": role}))
    head = yaml.safe_load(model_card(story, licences(story, stated, None)).split("---")[1])
    assert (head["license"], head.get("license_name")) == found and ("model-index" in head) == (role == "confirm")


def test_ten_thousand_classes_make_a_page(tmp_path: Path) -> None:
    labels = tuple(f"class {index}" for index in range(10_000))
    text = in_full(tmp_path, record(labels=labels))
    assert len(text.encode()) < 3_000_000


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_text(path.read_text()[:500]), "no record"),
        (lambda path: path.with_suffix(".npz").write_bytes(b"PK"), "another record"),
        (lambda path: path.unlink(), "no such record"),
    ],
)
def test_a_record_cut_short_is_one_clear_error(spoil: Any, words: str, tmp_path: Path) -> None:
    path = record().save(tmp_path / "r.json")
    spoil(path)
    with pytest.raises(BadInput, match=words):
        load_sources([path])


def test_a_report_replaces_nothing_that_it_reads(tmp_path: Path) -> None:
    path = record().save(tmp_path / "r.json")
    before = path.read_bytes()
    for words in (("--json", path), ("--csv", tmp_path / "x", "--md", tmp_path / "x")):
        done = CliRunner().invoke(app, ["report", *map(str, (path, *words))])
        assert isinstance(done.exception, BadInput) and "neither read nor named twice" in str(done.exception)
    assert path.read_bytes() == before and not (tmp_path / "x").exists()


def test_an_unknown_reference_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no row 'x'"):
        told(tmp_path, record(), reference="x")


def drawn(story: Any) -> dict[str, Any]:
    return {one.key: one for one in charts(story)[0]}


def test_latencies_of_two_machines_are_not_drawn_together(tmp_path: Path) -> None:
    here = record()
    there = replace(record(names=("fp32 there", "int8 there"), ms=1.0), environment={**here.environment, "cpu": "y"})
    paths = [here.save(tmp_path / "here.json"), there.save(tmp_path / "there.json")]
    story = tell(load_sources(paths), reference="fp32")
    found = drawn(story)
    for key in ("front", "ecdf", "strip", "footprint"):
        assert [row[0].text for row in found[key].rows if "there" in row[0].text] == [], key
        assert "2 rows of another machine (there.json)" in found[key].note, key
    same = replace(there, environment=here.environment)
    story = tell(load_sources([paths[0], same.save(tmp_path / "same.json")]), reference="fp32")
    assert len(drawn(story)["strip"].rows) == 4 and drawn(story)["strip"].note == ""


def at_pace(made: Record, **pace: Any) -> Record:
    """Each call took as long, in another regime or with another batch."""
    timed = {
        name: replace(found, sensors={"wall_s": np.array([block.sum() / 4e9 for block in found.blocks])}, **pace)
        for name, found in made.rounds.items()
    }
    return replace(made, rounds=timed)


def test_latencies_of_two_paces_are_not_drawn_together(tmp_path: Path) -> None:
    eight = at_pace(record(names=("fp32 at eight", "int8 at eight"), ms=1.0), batch=8)
    paths = [record().save(tmp_path / "one.json"), eight.save(tmp_path / "eight.json")]
    found = drawn(tell(load_sources(paths), reference="fp32"))
    for key in ("front", "ecdf", "strip"):
        assert [row[0].text for row in found[key].rows if "eight" in row[0].text] == [], key
        assert "2 rows of another regime, batch or number of lanes (eight.json)" in found[key].note, key
    assert len(found["footprint"].rows) == 4


def test_throughput_is_said_by_photo(tmp_path: Path) -> None:
    story = told(tmp_path, at_pace(record(), regime="throughput", lanes=4))
    assert "median 0.75 ms a photo)" in story.answer.line
    assert table(story)[1][KEYS.index("p50")].text.startswith("0.75 a photo (")
    assert dict(key_figures(story))["median time, ms"].unit == "ms a photo"
    found = drawn(story)
    assert "time, ms a photo" in found["front"].wide and "time, ms a photo" in found["strip"].wide
    assert found["ecdf"].rows[0][2].value == pytest.approx(3, rel=0.05)


def test_what_a_picture_has_no_room_for_is_in_its_table(tmp_path: Path) -> None:
    made = many(record(labels=tuple(f"class {number}" for number in range(40)), lost=200), 29)
    split = {name: Stages(("inference",), np.full((3, 1), 10**6)) for name in made.rounds}
    found = drawn(told(tmp_path, replace(made, stages=split)))
    left_out = {key: (len(found[key].rows), found[key].note) for key in ("ecdf", "strip", "footprint", "stages")}
    assert all(count == 30 and "The table has 6 more " in note for count, note in left_out.values()), left_out
    assert len(found["classes"].rows) > 20 and len(found["confusion"].rows) > 15
    for key, most in (("classes", 20), ("confusion", 15)):
        assert f"The table has {len(found[key].rows) - most} more" in found[key].note


def test_a_loss_budget_and_a_history_are_drawn_where_there_are_such(tmp_path: Path) -> None:
    photos = tuple(f"{index:064x}" for index in range(PHOTOS))
    names = ("checkpoint", "int8, in float", "int8 on engine")
    kept = {name: answers(lost, photos) for name, lost in zip(names, (0, 2, 9), strict=True)}
    explain = Record("explain", {}, tuple(Subject(name) for name in names), predictions=kept)
    folder = tmp_path / "earlier"
    for day, ms in (("01", 3.5), ("02", 3.2)):
        replace(record(ms=ms), created=f"2026-01-{day}").save(folder / f"{day}.json")
    (folder / "gate.json").write_text("{}")
    paths = [record().save(tmp_path / "r.json"), explain.save(tmp_path / "explain.json")]
    story = tell(load_sources(paths), history=folder)
    found = drawn(story)
    harmed = {row[0].text: (row[2].value, row[3].value) for row in found["budget"].rows}
    assert harmed == {"checkpoint": (0, 0), "int8, in float": (2, 0), "int8 on engine": (7, 0)}
    assert [row[0].text for row in found["history"].rows] == ["2026-01-01", "2026-01-02"]
    assert found["history"].rows[0][2].value == pytest.approx(3.5, rel=0.05) and "gate.json" in found["history"].note
    stages = {flip.stage for item in gallery(story, 50).items for flip in item.flips}
    assert stages == {"", "int8, in float", "int8 on engine"}


def test_a_history_is_of_clean_photos_and_joins_what_is_of_one_kind(tmp_path: Path) -> None:
    fewer = record(photos=tuple(f"{index:064x}" for index in range(PHOTOS // 2)))
    blurred = replace(record(lost=700), kind="robustness")
    for day, made in enumerate((record(), blurred, at_pace(record(), batch=8), fewer, record()), 1):
        replace(made, created=f"2026-01-0{day}").save(tmp_path / "earlier" / f"{day}.json")
    rows = drawn(told(tmp_path, record(), history=tmp_path / "earlier"))["history"].rows
    told_of = [(row[0].text[-1], row[4].text, row[5].text) for row in rows]
    assert told_of == [("1", "1", "1"), ("3", "2", "1"), ("4", "1", "2"), ("5", "1", "1")]


def test_a_chart_without_data_names_the_command_that_brings_it(tmp_path: Path) -> None:
    missing = {one.title: one.command for one in charts(told(tmp_path, record()))[1]}
    assert missing["Loss budget"].startswith("tiffin explain") and missing["Classes of CPU"].startswith(
        "tiffin certify"
    )
    assert missing["Corrupted photos"].startswith("tiffin robustness") and "--history" in missing["Over commits"]


# The gallery


@pytest.fixture(scope="module")
def photo_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four folders of two photos."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(8):
        place = folder / "test" / f"class{number % 4}" / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (40, 50, 3), np.uint8)).save(place)
    return folder


def test_photos_are_found_by_their_pixels_and_bounded(photo_set: Path, tmp_path: Path) -> None:
    there = [pixel_hash(path) for path in sorted(photo_set.rglob("*.png"))]
    made = record(photos=(*there, "f" * 64, *(f"{index:064x}" for index in range(50))), lost=20)
    path, html = made.save(tmp_path / "r.json"), tmp_path / "r.html"
    run = CliRunner().invoke(
        app, ["report", str(path), "--html", str(html), "--data", str(photo_set), "--pictures", "3"]
    )
    assert run.exit_code == 0, run.output
    text = html.read_text()
    assert text.count("data:image/webp") == 3 and "photo not found in the data" in text and "bound is reached" in text
    assert "http://" not in re.sub(r'xmlns="[^"]*"', "", text) and "https://" not in text


def test_flips_say_who_was_harmed(tmp_path: Path) -> None:
    story = told(tmp_path, record(lost=5))
    found = gallery(story, 50)
    assert len(found.items) == 5 and {flip.kind for item in found.items for flip in item.flips} == {"harmed"}
    assert found.items[0].flips[0].before[0].score.endswith("%")
    backwards = told(tmp_path, record(lost=5), reference="int8")
    assert {flip.kind for item in gallery(backwards, 9).items for flip in item.flips} == {"healed"}


# In a browser

browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: `apt-get install chromium`")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api")
    with sync.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def real_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed records, with charts of every kind that they hold."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    story = tell(load_sources([RESULTS / name for name in ("default.json", "robustness.json", "cpus-openvino.json")]))
    out.write_text(page(story, *charts(story), gallery(story, 60)), encoding="utf-8")
    return out


def opened(chromium: Any, path: Path, **how: Any) -> tuple[Any, list[str]]:
    """The page, and all that went wrong: console, errors, requests for anything else."""
    wrong: list[str] = []
    shown = chromium.new_page(**how)
    shown.on("console", lambda said: wrong.append(said.text))
    shown.on("pageerror", lambda error: wrong.append(str(error)))
    shown.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else wrong.append(asked.url))
    shown.goto(path.as_uri())
    return shown, wrong


@browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_whole_accessible_and_asks_for_nothing(chromium: Any, real_page: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    shown, wrong = opened(chromium, real_page, color_scheme=scheme, viewport={"width": 1100, "height": 900})
    assert real_page.stat().st_size < 3_000_000
    rules = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}  # all else is as in the light
    violations = axe.run(shown, options={"resultTypes": ["violations"], **rules}).response["violations"]
    found = [one for one in violations if one["impact"] in ("serious", "critical")]
    assert not found, [(one["id"], one["nodes"][0]["html"][:200]) for one in found]
    assert shown.locator("section svg:visible").count() >= 7 and wrong == []
    shown.close()


@browser
def test_charts_hold_the_records_values(chromium: Any, real_page: Path) -> None:
    shown, _ = opened(chromium, real_page)
    made = load_record(RESULTS / "default.json")
    data = shown.locator("#front details table, #accuracy-latency details table").first
    section = shown.locator("section:has(h2:text('Accuracy against latency'))").first
    text = section.inner_html() if data.count() == 0 else data.inner_html()
    for name in ("openvino fp32", "onnxruntime int8 cpu ort"):
        found = made.predictions[name]
        assert name in text and f"{100 * float((found.top[:, 0] == found.truth).mean()):.2f}" in text
    labels = [one.get_attribute("aria-label") or "" for one in shown.locator("[role=img]").all()]
    assert any("openvino fp32" in label and "89.09" in label for label in labels)
    shown.close()


@browser
def test_filters_work_and_without_scripts_all_is_listed(chromium: Any, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    labels = ("a", "b", "c", "d")
    out.write_text(in_full(tmp_path, record(labels=labels, lost=9)), encoding="utf-8")
    shown, wrong = opened(chromium, out)
    photos = shown.locator(".photo:visible")
    assert photos.count() == 9
    value = shown.locator("select[name=class] option").nth(1).get_attribute("value")
    shown.select_option("select[name=class]", value)
    few = photos.count()
    assert 0 < few < 9 and f"{few} of 9 photos" in shown.locator("#count").inner_text()
    shown.select_option("select[name=kind]", "harmed")
    shown.click("#filters button[type=reset]")
    shown.wait_for_timeout(100)
    assert photos.count() == 9 and wrong == []
    plain = chromium.new_context(java_script_enabled=False).new_page()
    plain.goto(out.as_uri())
    assert plain.locator(".photo:visible").count() == 9
    shown.close()


@browser
def test_a_phone_scrolls_one_way_and_paper_takes_it(chromium: Any, real_page: Path) -> None:
    shown, _ = opened(chromium, real_page, viewport={"width": 360, "height": 740})
    assert shown.evaluate("document.documentElement.scrollWidth") <= 360
    shown.emulate_media(media="print")
    assert shown.locator("h1, .answer").first.is_visible() and shown.locator("#filters:visible").count() == 0
    assert len(shown.pdf()) > 10_000
    shown.close()


@browser
def test_what_is_closed_on_the_screen_is_printed_open(chromium: Any, real_page: Path) -> None:
    shown, _ = opened(chromium, real_page)
    count = shown.locator("details").count()
    shown.evaluate(
        "addEventListener('beforeprint', () => { window.seen = document.querySelectorAll('[open]').length })"
    )
    shown.pdf()
    assert count > 7 and shown.evaluate("window.seen") == count
    assert shown.locator("details[open]").count() == 0
    shown.close()


def test_the_verdicts_stand_behind_the_rows_name() -> None:
    assert KEYS[:4] == ("number", "row", "accuracy", "speed") and HEADER[1:4] == ("row", "accuracy", "speed")


@browser
def test_hostile_names_run_nothing(chromium: Any, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    out.write_text(in_full(tmp_path, record(names=("fp32", "<img src=x onerror=console.log(1)>"))), encoding="utf-8")
    shown, wrong = opened(chromium, out)
    assert wrong == [] and HOSTILE[2] in shown.locator("body").inner_text()
    shown.close()


def test_the_command_writes_every_form(tmp_path: Path) -> None:
    path = replace(record(), created="2026-02-02").save(tmp_path / "r.json")
    forms = ("html", "md", "csv", "latex", "json", "card")
    words = [word for form in forms for word in (f"--{form}", str(tmp_path / f"out.{form}"))]
    run = CliRunner().invoke(app, ["report", str(path), *words])
    assert run.exit_code == 0, run.output
    assert all((tmp_path / f"out.{form}").stat().st_size > 100 for form in forms) and "Ship int8" in run.output


def test_a_folder_in_a_files_place_names_the_option_that_named_it(tmp_path: Path) -> None:
    path = record().save(tmp_path / "r.json")
    for form in ("csv", "card"):
        error = CliRunner().invoke(app, ["report", str(path), f"--{form}", str(tmp_path)]).exception
        assert isinstance(error, BadInput) and error.fix == f"choose another --{form}"
