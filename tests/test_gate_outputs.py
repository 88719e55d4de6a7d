"""What CI reads: the gate's files, GitHub's and GitLab's steps run as they are written, the pytest plugin, the hook."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import fields, replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml
from junitparser import JUnitXml

from tiffin.errors import BadInput
from tiffin.gate.outputs import FILES, write_outputs
from tiffin.gate.outputs.github import annotation_lines, announce
from tiffin.gate.outputs.gitlab import as_metrics
from tiffin.gate.outputs.junit import as_junit
from tiffin.gate.outputs.markdown import as_markdown
from tiffin.records import Predictions, Record, Subject
from tiffin.records.estimate import Estimate
from tiffin.records.findings import Finding, GateResult, Outcome, load_result, schema_path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
EVIL = "<script>\n::error::got in\r|x|\x00\x1b[31m🍎 \u202eتفاح 100%, a:b ]]> @all"


def finding(outcome: Outcome = Outcome.FAIL, artifact: str = "int8", reason: str = "too low", **more) -> Finding:
    value = Estimate(0.02, 0.01, 0.03, 0.95, 100, "exact")
    return Finding(artifact, "accuracy-drop", outcome, reason, "baseline", "points", 0.01, value, 0.01, line=7, **more)


def result(*findings: Finding, outcome: Outcome = Outcome.FAIL, code: int = 1, **policy: str) -> GateResult:
    return GateResult(outcome, code, findings, policy, created="2026-01-02T03:04:05Z")


# Files


def test_all_four_files_are_written_and_gate_json_keeps_its_schema(tmp_path: Path) -> None:
    known = {"reason": "known", "until": "2026-12-31"}
    made = result(finding(), finding(Outcome.EXPECTED, expected=known), finding(Outcome.PASS, EVIL, EVIL))
    assert [path.name for path in write_outputs(made, tmp_path / "new" / "out")] == list(FILES)
    folder = tmp_path / "new" / "out"
    jsonschema.validate(json.loads((folder / "gate.json").read_text()), json.loads(schema_path().read_text()))
    assert load_result(folder / "gate.json") == made


def test_the_schema_names_the_fields_of_the_code() -> None:
    schema = json.loads(schema_path().read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for found, cls, more in ((schema, GateResult, {"schema"}), (schema["$defs"]["finding"], Finding, set()),
                             (schema["$defs"]["estimate"], Estimate, set())):  # fmt: skip
        assert set(found["properties"]) == set(found["required"]) == {one.name for one in fields(cls)} | more
    assert schema["$defs"]["finding"]["properties"]["outcome"]["enum"] == [one.value for one in Outcome]


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot write"):
        write_outputs(result(finding()), tmp_path / "file")


@pytest.mark.parametrize(("policy", "tag"), [("warn", "skipped"), ("fail", "error"), ("measure-more", "error")])
def test_junit_has_a_case_for_each_check_and_inconclusive_by_policy(policy: str, tag: str) -> None:
    known = {"reason": "issue 12", "until": "2026-12-31"}
    made = result(finding(), finding(Outcome.INCONCLUSIVE), finding(Outcome.EXPECTED, expected=known),
                  finding(Outcome.PASS, "other"), inconclusive=policy)  # fmt: skip
    cases = list(ET.fromstring(as_junit(made)).iter("testcase"))
    parsed = JUnitXml.fromstring(as_junit(made))
    assert (parsed.tests, parsed.failures, parsed.errors + parsed.skipped) == (4, 1, 2)
    tags = [[child.tag for child in case if child.tag != "system-out"] for case in cases]
    assert tags == [["failure"], [tag], ["skipped"], []]
    assert [case.get("classname") for case in cases] == ["int8", "int8", "int8", "other"]
    assert all(word in cases[2].find("skipped").get("message") for word in ("issue 12", "2026-12-31"))


def test_one_check_against_two_others_is_two_tests_and_two_series() -> None:
    made = result(finding(), *(replace(finding(), against=name) for name in ("fp32", "a <b>")))
    named = [case.get("name") for case in ET.fromstring(as_junit(made)).iter("testcase")]
    assert named == ["accuracy-drop", "accuracy-drop, against fp32", "accuracy-drop, against a <b>"]
    series = [line.rpartition(" ")[0] for line in as_metrics(made).split("\n") if not line.startswith("#")][:-1]
    assert len(set(series)) == len(series) == 9 and 'against="fp32"' in series[1]


def test_names_stay_text_in_every_form() -> None:
    made = result(finding(artifact=EVIL, reason=EVIL), finding(Outcome.PASS))
    assert "🍎" in ET.fromstring(as_junit(made)).find(".//testcase").get("classname")
    rows = [line for line in as_markdown(made).splitlines() if line.startswith("| ❌") or line.startswith("| ✅")]
    assert len(rows) == 2 and all(len(re.findall(r"\|", row)) == 7 for row in rows)
    assert "<script>" not in as_markdown(made) and "@all" not in as_markdown(made)
    (line,) = annotation_lines(made, Path("a,b:c.toml"))
    assert "\n" not in line and "\r" not in line and "file=a%2Cb%3Ac.toml,line=7," in line and "100%25" in line
    samples = [line for line in as_metrics(made).split("\n") if not line.startswith("#")]
    assert all(re.fullmatch(r"tiffin_\w+\{.*\} [-\d.e]+", line) for line in samples if line) and samples[-1] == ""


def test_ten_annotations_of_a_kind_are_shown_and_the_rest_counted() -> None:
    lines = annotation_lines(result(*[finding()] * 10, *[finding(Outcome.INCONCLUSIVE)] * 25), Path("tiffin.toml"))
    errors, warnings = ([line for line in lines if line.startswith(f"::{kind} ")] for kind in ("error", "warning"))
    assert len(errors) == len(warnings) == 10
    assert "16 more" in warnings[-1] and "more" not in errors[-1]


def test_ten_thousand_findings_fit_a_summary_and_all_are_in_junit() -> None:
    rows = [finding(Outcome.PASS, f"🍎{index}", "ü" * 100) for index in range(10_000)]
    made = result(*rows[:-1], finding(artifact="the one that fails"))
    text = as_markdown(made)
    assert len(text.encode()) < 1 << 20 and "the one that fails" in text
    (left,) = re.findall(r"(\d+) of 10000 rows are left out", text)
    assert int(left) + len(re.findall(r"^\| [❌✅]", text, re.M)) == 10_000
    assert len(list(ET.fromstring(as_junit(made)).iter("testcase"))) == 10_000


def test_a_summary_file_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    with pytest.raises(BadInput, match="GITHUB_STEP_SUMMARY"):
        announce(result(finding()), Path("tiffin.toml"))


# Steps, run as they are written


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder as CI checks it out: a policy, a good record and a bad one; a name has a space."""
    (tmp_path / "tiffin.toml").write_text('[[rule]]\nartifacts = "int8"\nagainst = "fp32"\naccuracy-drop = 0.02\n')
    _record(tmp_path / "good one.json", lost=0)
    _record(tmp_path / "bad.json", lost=100)
    return tmp_path


def _record(path: Path, lost: int) -> None:
    truth = np.arange(1000) % 4
    digests = tuple(f"{index:064x}"[::-1] for index in range(1000))
    answers = {}
    for name, wrong in (("fp32", 0), ("int8", lost)):
        top = np.where(np.arange(1000) < wrong, (truth + 1) % 4, truth)
        whole = np.stack([top, (top + 1) % 4, (top + 2) % 4], 1).astype(np.int32)
        answers[name] = Predictions(digests, truth.astype(np.int64), whole, np.zeros(whole.shape, np.float32))
    subjects = tuple(Subject(name, artifact=f"{i}" * 64, checkpoint="c" * 64) for i, name in enumerate(answers))
    data = {"labels": ("a", "b", "c", "d"), "coarse": ("x", "x", "y", "y")}
    Record("score", {"cpu": "x"}, subjects, data=data, predictions=answers).save(path)


def github(folder: Path, **inputs: str) -> tuple[int, str, dict[str, str]]:
    """Run every `run:` step of action.yml with bash as GitHub does; `uses:` steps are not run here.

    Returns:
        The first exit status that is not 0, all output, and outputs with the summary as `summary`.
    """
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    known = {name: one.get("default", "") for name, one in action["inputs"].items()} | inputs
    files = {
        name: folder / f".{name}" for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ENV", "GITHUB_PATH")
    }
    for path in files.values():
        path.write_text("")
    shared = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(folder), "GITHUB_ACTIONS": "true",
              "GITHUB_ACTION_PATH": str(ROOT), "GITHUB_WORKSPACE": str(folder),
              **{name: str(path) for name, path in files.items()}}  # fmt: skip
    said, code = "", 0
    for step in (step for step in action["runs"]["steps"] if "run" in step):
        own = {name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda m: known[m[1]], word)
               for name, word in step["env"].items()}  # fmt: skip
        script = folder / ".step.sh"
        script.write_text(step["run"])
        words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        done = subprocess.run(words, cwd=folder, env={**shared, **own}, capture_output=True, text=True, timeout=120)
        said, code = said + done.stdout + done.stderr, done.returncode
        if code:
            break
    outputs = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
    return code, said, outputs | {"summary": files["GITHUB_STEP_SUMMARY"].read_text()}


def test_the_action_passes_what_is_as_good(project: Path) -> None:
    code, said, outputs = github(project, install="false", records="good one.json\n")
    assert code == 0, said
    assert outputs["outcome"] == "PASS" and "::error" not in said
    assert load_result(project / outputs["gate-json"]).outcome is Outcome.PASS


def test_the_action_fails_on_a_regression_with_summary_and_annotation(project: Path) -> None:
    code, said, outputs = github(project, install="false", records="bad.json")
    assert code == 1 and outputs["outcome"] == "FAIL", said
    assert re.search(r"^::error file=tiffin.toml,line=4,", said, re.M)
    assert "tiffin check: FAIL" in outputs["summary"] and "| int8 | accuracy-drop |" in outputs["summary"]
    assert all((project / "out" / "check" / name).exists() for name in FILES)


@pytest.mark.parametrize("word", ['$(touch hacked)`touch hacked`\'"; touch hacked; "', "--help"])
@pytest.mark.parametrize("name", ["records", "policy", "baseline", "out", "against", "photos", "budget-s"])
def test_an_input_of_the_action_is_never_a_command(project: Path, name: str, word: str) -> None:
    given = {"install": "false", "records": "good one.json", name: word}
    code, said, _ = github(project, **given)
    assert not (project / "hacked").exists()
    assert code == 2 or name == "out", said


def test_wrong_input_gives_no_outcome_and_leaves_none_of_an_earlier_check(project: Path) -> None:
    out = project / "out of" / "check"
    write_outputs(result(finding()), out)
    (out / "side-by-side.json").write_text("kept")
    code, said, outputs = github(project, install="false", records="none.json", out="out of/check")
    assert code == 2 and set(outputs) == {"summary"} and "error:" in said
    assert [path.name for path in out.iterdir()] == ["side-by-side.json"]


def test_the_action_is_pinned_and_takes_no_expression_into_a_shell() -> None:
    """`uses:` steps cannot run here: their pins, conditions and inputs are looked at only."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    steps = action["runs"]["steps"]
    assert all("${{" not in step.get("run", "") for step in steps)
    assert all(step["shell"] == "bash" for step in steps if "run" in step)
    uses = {step["uses"].split("@")[0]: step for step in steps if "uses" in step}
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"]) for step in uses.values())
    assert set(uses["actions/setup-python"]["with"]) == {"python-version"}
    assert uses["actions/cache"]["with"]["path"] == "~/.cache/pip"  # no photos
    told = set(re.findall(r"inputs\.([\w-]+)", json.dumps(steps)))
    assert told == set(action["inputs"])


def gitlab(folder: Path, **variables: str) -> tuple[int, str]:
    """The template's script lines, one after the other as GitLab's runner does."""
    job = yaml.safe_load((ROOT / "ci" / "gitlab.yml").read_text())["tiffin-check"]
    env = {**job["variables"], "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(folder), **variables}
    done = subprocess.run(["bash", "-eo", "pipefail", "-c", "\n".join(job["script"])], cwd=folder, env=env,
                          capture_output=True, text=True, timeout=120)  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(("lost", "code"), [(0, 0), (100, 1)])
def test_gitlabs_script_ends_with_the_gates_exit_code(project: Path, lost: int, code: int) -> None:
    _record(project / "score.json", lost)
    found, said = gitlab(project, TIFFIN_PACKAGE="", TIFFIN_RECORDS="score.json")
    assert found == code, said
    job = yaml.safe_load((ROOT / "ci" / "gitlab.yml").read_text())["tiffin-check"]
    for path in (*job["artifacts"]["paths"], *job["artifacts"]["reports"].values()):
        assert (project / path.replace("$TIFFIN_OUT", "out/check")).is_file()


def test_gitlabs_image_has_the_git_that_the_documented_install_needs() -> None:
    """The slim images of Python have none."""
    assert 'TIFFIN_PACKAGE: "tiffin[gate] @ git+https' in (ROOT / "docs" / "ci.md").read_text()
    assert yaml.safe_load((ROOT / "ci" / "gitlab.yml").read_text())["tiffin-check"]["image"] == "python:3.12"


def test_gitlabs_job_installs_what_it_was_told_to_and_nothing_else(project: Path) -> None:
    code, said = gitlab(project, TIFFIN_RECORDS="score.json")
    assert code and "TIFFIN_PACKAGE: says what pip installs" in said and "error:" not in said


def test_the_hook_reads_the_policy(project: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    words = [*hook["entry"].split(), *hook["args"]]
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    assert subprocess.run(words, cwd=project, env=env, timeout=60).returncode == 0
    (project / "tiffin.toml").write_text('[[rule]]\nartifacts = "*"\nflipz = 1\n')
    done = subprocess.run(words, cwd=project, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "tiffin.toml:3" in done.stderr
    assert (
        re.search(hook["files"], "tiffin.toml")
        and not re.search(hook["files"], "models/tiffin.toml")
        and not hook["pass_filenames"]
    )


# pytest


def session(folder: Path, body: str, ini: str = "") -> str:
    """A user's own pytest session, with the plugin by its entry point."""
    (folder / "pytest.ini").write_text(f"[pytest]\n{ini}")
    (folder / "test_own.py").write_text(f"def test_own(tiffin_gate):\n    {body}\n")
    plain = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    words = [sys.executable, "-m", "pytest", "-rs", *plain, "test_own.py"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("body", "ini", "words"),
    [
        ('tiffin_gate("good one.json")', "", "1 passed"),
        (
            "tiffin_gate()",
            "tiffin_records = bad.json\ntiffin_policy = tiffin.toml",
            "FAIL int8, accuracy-drop (line 4)",
        ),
        ("tiffin_gate()", "", "no records"),
        ('tiffin_gate("few.json")', "", "1 skipped"),
        ('tiffin_gate("few.json", policy="strict.toml")', "", "INCONCLUSIVE int8"),
        ('tiffin_gate("good one.json", baseline="none.json")', "", "BadInput"),
    ],
)
def test_the_plugin_judges_as_the_command(project: Path, body: str, ini: str, words: str) -> None:
    _record(project / "few.json", lost=20)  # at the margin: neither
    strict = '[gate]\ninconclusive = "fail"\n' + (project / "tiffin.toml").read_text()
    (project / "strict.toml").write_text(strict)
    assert words in session(project, body, ini)


def test_the_plugin_loads_nothing_until_it_is_used() -> None:
    code = ("import sys; import tiffin.gate.pytest_plugin; "
            "print(sorted({'numpy', 'PIL', 'typer', 'onnxruntime', 'torch'} & set(sys.modules)))")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
