"""`tiffin check` and `tiffin baseline`: the gate, on a terminal and in CI."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import BadInput
from . import options, output, render

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..gate.policy import Policy
    from ..records.findings import GateResult

_POLICY = Path("tiffin.toml")


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(check)
    baseline = typer.Typer(
        no_args_is_help=True, help="The committed baseline of `tiffin check`.", rich_markup_mode=None
    )
    baseline.command()(update)
    baseline.command(name="show")(show_baseline)
    app.add_typer(baseline, name="baseline")


def check(
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
    accuracy: Annotated[float, typer.Option(help="With --plan: top-1 of the one compared with.")] = 0.9,
    power: Annotated[float, typer.Option(help="With --plan: chance to decide.")] = 0.8,
    spread: Annotated[
        float | None, typer.Option(help="With --plan: standard deviation of a launch's log ratio.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for gate.json, junit.xml, metrics.txt and summary.md.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """PASS, FAIL or INCONCLUSIVE: records against a policy and a baseline.

    Exit codes: 0 pass, 1 regression, 2 wrong input, 3 inconclusive where the policy says that this fails. On GitHub the
    step summary and annotations are written too.
    """
    if plan is not None:
        _plan(plan, discordance, accuracy, power, spread, as_json)
        return
    from ..gate.files import load_policy

    chosen = load_policy(policy)
    if policy_only:
        render.show(f"{policy}: {len(chosen.rules)} rules, {len(chosen.expected)} expected failures")
        return
    if not subjects:
        raise BadInput("nothing to check", "records, or artifacts with --against", "see `tiffin check --help`")
    if out is not None:
        output.make_parent(out / "gate.json")
    if against is None:
        result = _of_records([Path(word) for word in subjects], policy, baseline, other_checkpoint)
    else:
        _refuse_baseline(baseline)
        words = _Words(subjects, against, build, data, photos, launches, threads, budget_s)
        result = _side_by_side(words, chosen, other_checkpoint, (out or Path("out/check")) / "side-by-side.json")
    _tell(result, policy, out, as_json)
    raise typer.Exit(result.exit_code)


def _refuse_baseline(baseline: Path | None) -> None:
    if baseline is not None:
        raise BadInput("--baseline and --against", "one of them: a stored baseline, or the old version measured here")


def _of_records(records: list[Path], policy: Path, baseline: Path | None, other_checkpoint: bool) -> GateResult:
    from ..gate.files import judge_files

    render.echo_options(policy=policy, baseline=baseline or "none", records=len(records))
    return judge_files(records, policy, baseline, other_checkpoint)


class _Words:
    """What the user said of a comparison here and now."""

    def __init__(self, subjects: list[str], against: str, build: str | None, data: Path | None, photos: int | None,
                 launches: int, threads: int | None, budget_s: float | None) -> None:  # fmt: skip
        self.subjects, self.against, self.build, self.data = subjects, against, build, data
        self.photos, self.launches, self.threads, self.budget_s = photos, launches, threads, budget_s


def _side_by_side(words: _Words, policy: Policy, other_checkpoint: bool, out: Path) -> GateResult:
    """Old and new in turns; the record is kept, so that the verdict can be had again from it."""
    from dataclasses import replace

    from .. import machine
    from ..benchmarks.options import RoundOptions
    from ..gate.earlier import earlier
    from ..gate.files import described, judge
    from ..gate.looks import judge_in_looks, looks_of
    from ..gate.side_by_side import Pair, SideBySide

    now = options.candidates(words.subjects, None, words.threads, None)
    policy = replace(policy, budget_s=words.budget_s or policy.budget_s)
    output.make_parent(out)
    render.echo_options(against=words.against, launches=words.launches, photos=words.photos or "all",
                        inconclusive=policy.inconclusive, budget_s=policy.budget_s, out=out)  # fmt: skip
    folders = [Path(word.partition("@")[0]) for word in words.subjects]
    with earlier(folders, words.against, words.build) as before:
        olds = [f"{folder}@{row.run.backend}" for folder, row in zip(before, now, strict=True) if row.run]
        pairs = [Pair(new, old) for new, old in
                 zip(now, options.candidates(olds, None, words.threads, None), strict=True)]  # fmt: skip
        progress = render.TerminalProgress()
        timing = RoundOptions(launches=words.launches, target=None)
        run = SideBySide(pairs, timing, progress.timing, looks_of(policy))
        if _wants(policy, timed=True):
            run.time()
            progress.timed()
        more = _scoring(run, pairs, words, out.parent / "cache") if _wants(policy, timed=False) else _nothing_more
        result, record = judge_in_looks(
            policy, run, lambda record: judge(policy, {out.name: record}, None, other_checkpoint), more
        )
    output.save(record, out)
    render.say(f"record: {out} (judge it again: tiffin check {out})")
    return replace(result, records=(described(out),), baseline={"against": words.against}, created=machine.utc_now())


def _wants(policy: Policy, timed: bool) -> bool:
    """Does any rule look at latencies, or at anything else?"""
    from ..gate.checks import CHECKS

    return any(
        CHECKS[key].timed is timed or key in ("memory", "max-memory-mb") for rule in policy.rules for key in rule.checks
    )


def _nothing_more() -> bool:
    return False


def _scoring(run: Any, pairs: list[Any], words: _Words, cache: Path) -> Callable[[], bool]:
    """Score the first photos now; the function that comes back scores twice as many each time, while there are more."""
    import sys

    from ..data import find_dataset, sample
    from ..data.prepared import prepare_photos

    host = options.one_preprocess([candidate for pair in pairs for candidate in pair.both])
    dataset = find_dataset(words.data, progress=sys.stderr.isatty())
    whole = dataset.role("confirm")
    count = min(words.photos or len(whole), len(whole))

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


def _plan(
    margin: float, discordance: float, accuracy: float, power: float, spread: float | None, as_json: bool
) -> None:
    import json
    from dataclasses import asdict

    from ..gate.plan import plan

    wishes = [plan(wish, discordance, accuracy, power, 0.95, spread) for wish in (margin / 2, margin, 2 * margin)]
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
             f"rightly by only one of the two and top-1 is {accuracy:.0%}; one-sided 95 %"]  # fmt: skip
    if wishes[0].launches:
        notes.append(f"latency: {wishes[0].launches} launches find a change of 2 % at this spread in 4 of 5 runs")
    render.show("\n" + render.Table(header, rows).text() + "\n\n" + render.wrapped(notes))


def update(
    records: Annotated[list[Path], typer.Argument(help="Records: bench, score or demo.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Baseline to write or renew.")] = Path("baseline.json"),
    only: Annotated[list[str] | None, typer.Option(help="Globs of the rows to keep. Default: all.")] = None,
    new: Annotated[bool, typer.Option("--new", help="Begin anew: other checkpoint, labels or photos.")] = False,
) -> None:
    """Write a baseline from records, and show what it changes. Entries of other machines stay."""
    from fnmatch import fnmatchcase

    from .. import machine
    from ..gate.baseline import SMALL_BYTES, Baseline, load_baseline, require_comparable, to_json, updated
    from ..gate.measured import rows_of
    from ..records.record import load_record

    rows, _ = rows_of({str(path): load_record(path) for path in records})
    kept = [row for name, row in rows.items() if not only or any(fnmatchcase(name, glob) for glob in only)]
    if not any(not row.reason for row in kept):
        raise BadInput("no row to keep", f"globs that match one of: {', '.join(rows) or 'none'}")
    old = load_baseline(out) if out.exists() and not new else Baseline()
    known = old.rows(kept[0].environment)
    require_comparable({row.name: row for row in kept}, known, other_checkpoint=False)
    text = to_json(updated(old, kept, machine.utc_now(), machine.git_commit() or ""))
    output.save_text(text, out)
    render.show(changes(known, {row.name: row for row in kept if not row.reason}))
    size = len(text.encode())
    large = f", above {SMALL_BYTES // 1000} kB: keep fewer rows with --only" if size > SMALL_BYTES else ""
    render.say(f"wrote {out} ({size / 1000:.0f} kB{large})")
    render.next_command(f"tiffin check RECORD --baseline {out}")


def changes(old: Any, new: Any) -> str:
    """Rows of the old baseline and of the new side by side."""
    rows = []
    for name in {**old, **new}:
        one, other = old.get(name), new.get(name)
        word = "new" if one is None else "kept" if other is None or one.artifact == other.artifact else "changed"
        rows.append([name, word, _top_1(one), _top_1(other), _p50(one), _p50(other)])
    header = ("row", "", "top-1 was", "is", "p50 was", "is")
    return "\n" + render.Table(header, rows, left=2).text()


def _top_1(row: Any) -> str:
    found = row.answers if row is not None else None
    return f"{100 * float((found.top[:, 0] == found.truth).mean()):.2f} %" if found is not None else ""


def _p50(row: Any) -> str:
    import statistics

    timing = row.timing if row is not None else None
    return f"{1e3 * statistics.median(timing.p50_s.values()):.3g} ms" if timing is not None else ""


def show_baseline(path: Annotated[Path, typer.Argument(help="A baseline.")] = Path("baseline.json")) -> None:
    """What a baseline holds."""
    from ..gate.baseline import fingerprint, load_baseline
    from ..gate.measured import cpu_class

    found = load_baseline(path)
    rows = [
        [
            row.name,
            row.artifact[:12],
            fingerprint(row.environment)[:8],
            cpu_class(row.environment),
            _top_1(row),
            _p50(row),
        ]
        for row in found.entries
    ]
    header = ("row", "artifact", "machine", "class", "top-1", "p50")
    commit = f", commit {found.commit[:12]}" if found.commit else ""
    render.show("\n" + render.Table(header, rows, left=4).text() + f"\n\nmade {found.created}{commit}")
