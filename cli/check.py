"""`tiffin check`: the gate, on a terminal and in CI."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import BadInput, command
from ..words import counted
from . import options, output, render
from .build import dataset_of, need_build

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..gate.policy import Policy
    from ..records.findings import GateResult

_POLICY = Path("tiffin.toml")
_OF_AGAINST = ("build", "data", "photos", "launches", "threads", "budget_s")
_OF_PLAN = ("discordance", "power", "spread")


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(check)


def check(
    context: typer.Context,
    subjects: Annotated[
        list[str] | None,
        typer.Argument(help="Records; with --against, artifacts (FOLDER@BACKEND).", show_default=False),
    ] = None,
    policy: Annotated[Path, typer.Option(help="What must be kept, in TOML; see docs/gate.md.")] = _POLICY,
    baseline: Annotated[Path | None, typer.Option(help="From `tiffin baseline update`; compared with this.")] = None,
    against: Annotated[
        str | None, typer.Option(help="Measure old and new here, in turns: a git revision, an artifact, or a folder.")
    ] = None,
    build: Annotated[str | None, typer.Option(help="Command that makes the artifacts at that git revision.")] = None,
    data: options.Data = None,
    photos: Annotated[int | None, typer.Option(min=1, help="With --against: photos to score. Default: all.")] = None,
    launches: Annotated[int, typer.Option(min=2, help="With --against: launches of each, at first.")] = 8,
    threads: options.Threads = None,
    budget_s: Annotated[
        float | None, typer.Option(min=1, help="Seconds to measure more in, if undecided. Default: the policy's.")
    ] = None,
    other_checkpoint: Annotated[
        bool, typer.Option("--other-checkpoint", help="Judge a retrained model by the old one's baseline.")
    ] = False,
    policy_only: Annotated[
        bool, typer.Option("--policy-only", help="Only read the policy and say if it holds.")
    ] = False,
    plan: Annotated[
        float | None, typer.Option(help="Only compute the photos that this margin takes: 0.01 is one point.")
    ] = None,
    discordance: Annotated[float, typer.Option(help="With --plan: photos that only one answers rightly.")] = 0.02,
    power: Annotated[float, typer.Option(help="With --plan: chance to decide.")] = 0.8,
    spread: Annotated[
        float | None, typer.Option(help="With --plan: standard deviation of a launch's log ratio.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for gate.json, junit.xml, metrics.txt and summary.md.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """PASS, FAIL or INCONCLUSIVE by a policy.

    Records against it and a baseline.

    Exit codes: 0 pass, 1 regression, 2 where nothing could be judged (wrong input, a failed build, a fault of ours),
    3 inconclusive where the policy says that this fails. On GitHub the step summary and annotations are written too.
    """
    with _ending_in_2():
        if plan is not None:
            options.only(context, ("plan", *_OF_PLAN, "as_json"), "--plan")
            _plan(plan, discordance, power, spread, as_json)
            return
        options.refuse(context, _OF_PLAN, "no --plan", "--plan, whose options they are")
        if policy_only:
            options.only(context, ("policy_only", "policy"), "--policy-only")
        elif against is None:
            options.refuse(context, _OF_AGAINST, "no --against", "--against, which measures; records are only judged")
        else:
            options.refuse(context, ("baseline",), "--against", "a stored baseline, or the old version measured here")
        from ..gate.files import load_policy

        chosen = load_policy(policy)
        if policy_only:
            rules, known = counted(len(chosen.rules), "rule"), counted(len(chosen.expected), "expected failure")
            render.show(f"{policy}: {rules}, {known}")
            return
        if not subjects:
            raise BadInput("nothing to check", "records, or artifacts with --against", "see `tiffin check --help`")
        if out is not None:
            need_build(("junitparser",), "gate")  # before minutes of measuring: one of the files needs it
            output.make_parent(out / "gate.json")
        if against is None:
            result = _of_records([Path(word) for word in subjects], policy, baseline, other_checkpoint)
        else:
            asked = _Asked(subjects, against, build, data, photos, launches, threads, budget_s)
            kept = (out or Path("out/check")) / "side-by-side.json"
            result = _side_by_side(asked, chosen, other_checkpoint, kept)
            again = command("check", kept, policy=policy if policy != _POLICY else None,
                            other_checkpoint=other_checkpoint)  # fmt: skip
            render.say(f"record: {kept} (judge it again: {again})")
        _tell(result, policy, out, as_json)
    raise typer.Exit(result.exit_code)


@contextlib.contextmanager
def _ending_in_2() -> Iterator[None]:
    """1 says that a regression is proven: whatever fails in here ends with 2, for nothing was judged."""
    try:
        yield
    except Exception as error:
        error.exit_code = BadInput.exit_code  # type: ignore[attr-defined]
        raise


def _of_records(records: list[Path], policy: Path, baseline: Path | None, other_checkpoint: bool) -> GateResult:
    from ..gate.files import judge_files

    for record in records:
        if Path(options.split_engine(str(record))[0]).is_dir():
            measured = command("check", *records, against="OLD")
            raise BadInput(f"{record}: is a folder, and there is no --against", "records, which hold what was measured",
                           f"measure it beside what it was: `{measured}`")  # fmt: skip
    render.echo_options(policy=policy, baseline=baseline or "none", records=len(records))
    return judge_files(records, policy, baseline, other_checkpoint)


@dataclass(frozen=True)
class _Asked:
    """What the user wants compared here and now."""

    subjects: list[str]
    against: str
    build: str | None
    data: Path | None
    photos: int | None
    launches: int
    threads: int | None
    budget_s: float | None


def _side_by_side(asked: _Asked, policy: Policy, other_checkpoint: bool, out: Path) -> GateResult:
    """Old and new in turns; the record is kept, so that the verdict can be had again from it."""
    from dataclasses import replace

    from .. import machine
    from ..benchmarks.options import RoundOptions
    from ..gate.checks import OF_ANSWERS, OF_LAUNCHES
    from ..gate.earlier import earlier
    from ..gate.files import described, judge
    from ..gate.looks import judge_in_looks, looks_of
    from ..gate.side_by_side import Pair, SideBySide

    now = options.candidates(asked.subjects, None, asked.threads, None)
    policy = replace(policy, budget_s=asked.budget_s or policy.budget_s)
    output.make_parent(out)
    render.echo_options(against=asked.against, launches=asked.launches, photos=asked.photos or "all",
                        inconclusive=policy.inconclusive, budget_s=policy.budget_s, out=out)  # fmt: skip
    folders = [Path(options.split_engine(word)[0]) for word in asked.subjects]
    with earlier(folders, asked.against, asked.build) as before:
        olds = [f"{folder}@{row.run.backend}" for folder, row in zip(before, now, strict=True) if row.run]
        pairs = [Pair(new, old) for new, old in
                 zip(now, options.candidates(olds, None, asked.threads, None), strict=True)]  # fmt: skip
        progress = render.TerminalProgress()
        timing = RoundOptions(launches=asked.launches, target=None)
        run = SideBySide(pairs, timing, progress.timing, looks_of(policy))
        checked = {key for rule in policy.rules for key in rule.checks}
        if checked & OF_LAUNCHES:
            run.time()
            progress.timed()
        more = _scoring(run, pairs, asked, out.parent / "cache") if checked & OF_ANSWERS else _nothing_more
        result, record = judge_in_looks(
            policy, run, lambda record: judge(policy, {out.name: record}, None, other_checkpoint), more
        )
    output.save(record, out)
    return replace(result, records=(described(out),), baseline={"against": asked.against}, created=machine.utc_now())


def _nothing_more() -> bool:
    return False


def _scoring(run: Any, pairs: list[Any], asked: _Asked, cache: Path) -> Callable[[], bool]:
    """Score the first photos now; the function that comes back scores twice as many each time, while there are more."""

    from ..data import sample
    from ..data.prepared import prepare_photos

    host = options.one_preprocess([candidate for pair in pairs for candidate in pair.both])
    dataset = dataset_of(asked.data)
    whole = dataset.role("confirm")
    count = min(asked.photos or len(whole), len(whole))

    def answer() -> None:
        drawn = whole if count == len(whole) else sample(whole, count, 0)
        prepared, about = prepare_photos(drawn, host, cache, dataset.kind), dataset.about("confirm", drawn)
        run.answer(prepared, about, cache, render.TerminalProgress().bar)

    def more() -> bool:
        nonlocal count
        if count == len(whole):
            return False
        count = min(2 * count, len(whole))
        answer()
        return True

    answer()
    return more


def _tell(result: GateResult, policy: Path, out: Path | None, as_json: bool) -> None:
    """To stdout, to files, and to GitHub where it asks."""
    render.show(result.to_json() if as_json else as_text(result))
    if out is not None:
        from ..gate.outputs import write_outputs

        write_outputs(result, out)
        render.say(f"wrote {out}: gate.json, junit.xml, metrics.txt, summary.md")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from ..gate.outputs.github import announce

        for line in announce(result, policy):
            render.say(line)


def as_text(result: GateResult) -> str:
    """A table, the reasons of all that does not pass, notes, and the verdict last, where a terminal ends."""
    from ..gate.outputs.markdown import counts, limit, measured, reason
    from ..records.findings import Outcome

    names = [None, *(finding.artifact for finding in result.findings)]
    found = [measured(one.value.value, one.unit) if one.value else "–" for one in result.findings]
    rows = [
        [one.artifact if one.artifact != last else "", one.check, value, limit(one), one.outcome.value]
        for last, one, value in zip(names, result.findings, found, strict=False)
    ]
    table = render.Table(("artifact", "check", "found", "limit", "outcome"), rows, left=2)
    open_ = [finding for finding in result.findings if finding.outcome is not Outcome.PASS]
    reasons = [f"{f.outcome.value} {f.artifact}, {f.check} (line {f.line}): {reason(f)}" for f in open_]
    sees = list(dict.fromkeys(finding.sees for finding in result.findings if "photos" in finding.sees))
    verdict = f"{result.outcome.value}: {counts(result)}; exit {result.exit_code}"
    notes = [*reasons, *sees[:1], *result.notes]
    return "\n" + "\n\n".join(part for part in (table.text(), render.wrapped(notes), verdict) if part)


def _plan(margin: float, discordance: float, power: float, spread: float | None, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from ..gate.plan import plan

    doubled = [2 * margin] if 2 * margin < 1 else []
    found = [plan(wish, discordance, power, 0.95, spread) for wish in (margin, margin / 2, *doubled)]  # errors name it
    wishes = sorted(found, key=lambda each: each.margin)
    if as_json:
        render.show(json.dumps([asdict(found) for found in wishes], indent=1))
        return
    rows = [
        [f"{100 * found.margin:.2f} points", f"{found.photos:,}" if found.photos else "> 1,000,000",
         f"{found.sees:.0%}" if found.sees is not None else "–"]
        for found in wishes
    ]  # fmt: skip
    header = ("margin", f"photos for {power:.0%}", "drop of that size seen")
    notes = [f"an equal model passes at this margin with {power:.0%}, if {discordance:.1%} of the photos are answered "
             "rightly by only one of the two; one-sided 95 %"]  # fmt: skip
    if wishes[0].launches:
        notes.append(f"latency: {wishes[0].launches} launches find a change of 2 % at this spread in 4 of 5 runs")
    render.show("\n" + render.Table(header, rows).text() + "\n\n" + render.wrapped(notes))
