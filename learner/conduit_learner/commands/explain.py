"""``conduit explain``: explain one decision in words and numbers."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from conduit_learner.commands.options import (
    TrackedHistory,
    echo_json,
    interruptible,
    opened_source,
    progress_bar,
    source_options,
)
from conduit_learner.commands.text import columns, format_signal, table
from conduit_log import LogSettings
from conduit_policy import AMOUNTS, title_of, weight_words
from conduit_schemas import Fallback, Flag

if TYPE_CHECKING:
    from conduit_learner.audit.explain import ArmExplanation, Explanation, Predicted

__all__ = ["explain"]


@click.command()
@click.argument("decision_id")
@source_options
@interruptible(lambda: "the explanation did not finish; nothing was changed")
def explain(*, decision_id: str, policy: str, archive: Path | None, settings: LogSettings, as_json: bool) -> None:
    """Explain one decision, and verify it against the log.

    Shows each available deployment with its predictions (means with 95 % intervals and numbers of observations, or
    "assumed" if nothing was observed), its utility under the objective and its probability, then the random draw, the
    outcome and the feedback. Exit code 1 means that the logged decision does not follow from the events before it.

    \b
    Example:  conduit explain 8f0c3a5d9b2e417600000012 --policy default/chat
    """
    from conduit_learner.audit import explain as library  # noqa: PLC0415 - loads river, which is an optional part

    with opened_source(settings, archive) as source:
        history = source.history(policy)
        with progress_bar("reading", history.end) as show_progress:
            found = library.explain(
                TrackedHistory(history, show_progress), policy, decision_id, checkpoints=history.checkpoints
            )
    if as_json:
        echo_json(_fields(found))
    else:
        click.echo("\n".join(_lines(found)))
    if found.proof is library.ProofStatus.DIFFERS:
        raise click.exceptions.Exit(1)


def _fields(found: "Explanation") -> dict[str, Any]:
    selection, again = found.selection, found.recomputation
    return {
        "policy": selection.policy,
        "decision_id": selection.decision_id,
        "request_id": selection.request_id,
        "partition": found.partition,
        "offset": found.offset,
        "time": selection.time,
        "chosen": selection.arm,
        "propensity": selection.propensity,
        "fallback": selection.fallback,
        "snapshot": {"version": selection.snapshot_version, "hash": selection.snapshot_hash},
        "rule": found.rule,
        "objective": selection.objective,
        "quality_coverage": found.coverage,
        "constraints": selection.constraints,
        "mode": selection.mode,
        "scope": selection.scope,
        "flags": selection.flags,
        "arms": found.arms,
        "greedy": None if found.greedy is None else selection.arms[found.greedy],
        "random_number": None if again is None else again.random_number,
        "drawn": None if again is None else selection.arms[again.drawn],
        "largest_probability_difference": None if again is None else again.largest_difference,
        "proof": found.proof,
        "reasons": found.reasons,
        "outcomes": found.outcomes,
        "feedbacks": found.feedbacks,
    }


def _lines(found: "Explanation") -> Iterator[str]:
    selection = found.selection
    moment = datetime.fromtimestamp(selection.time, UTC).isoformat(timespec="milliseconds")
    yield f"decision {selection.decision_id} of policy {selection.policy}"
    yield f"{moment}, partition {found.partition}, offset {found.offset:,}"
    yield f"chosen: {_named(selection.arm, found.arms[selection.chosen].model)}"
    yield ""
    shown = columns([signal for explained in found.arms for signal in explained.predicted])
    heads = ("deployment", "model", *shown.values(), "utility", "probability", "logged")
    yield table([heads, *(_row(explained, shown) for explained in found.arms)])
    yield ""
    yield from _choice(found)
    yield from _consequences(found)
    yield f"proof: {found.proof}. {found.proof.about}"
    for reason in found.reasons:
        yield f"    {reason}"


def _row(explained: "ArmExplanation", shown: Iterable[str]) -> tuple[str, ...]:
    cells = [_prediction(signal, explained.predicted.get(signal)) for signal in shown]
    utility = "-" if explained.utility is None else f"{explained.utility:.4f} ± {explained.deviation or 0.0:.4f}"
    probabilities = ("-" if p is None else f"{p:.4f}" for p in (explained.probability, explained.logged_probability))
    return explained.arm, explained.model or "-", *cells, utility, *probabilities


def _prediction(signal: str, predicted: "Predicted | None") -> str:
    if predicted is None:
        return "-"
    mean = format_signal(signal, predicted.mean)
    if predicted.is_assumed:
        return f"{mean} assumed"
    if predicted.observations is None:
        return mean
    interval = f"[{format_signal(signal, predicted.low)}, {format_signal(signal, predicted.high)}]"
    return f"{mean} {interval} n={predicted.observations:,.0f}"


def _choice(found: "Explanation") -> Iterator[str]:
    selection, again = found.selection, found.recomputation
    if selection.snapshot_version is not None:
        yield f"snapshot: offset {selection.snapshot_version:,}, hash {selection.snapshot_hash}"
    if found.rule is not None:
        params = ", ".join(f"{name} {value:g}" for name, value in found.rule.params.items())
        yield f"exploration rule: {found.rule.name}" + (f" ({params})" if params else "")
    if selection.objective:
        counted = "" if found.coverage is None else f"; all but quality counted for {found.coverage:.0%} of that"
        yield f"objective: {weight_words(selection.objective)}{counted}"
    if selection.mode:
        yield f"mode: {selection.mode}" + (f", with the goal of {selection.scope}" if selection.scope else "")
    if selection.constraints:
        yield "limits: " + ", ".join(f"{name} {value:g}" for name, value in selection.constraints.items())
    if selection.flags:
        yield "safeguards and limits that changed the probabilities:"
        yield from (f"    {flag}: {Flag.sentence(flag)}" for flag in selection.flags)
    if again is not None and found.greedy is not None:
        best = selection.arms[found.greedy]
        explored = "the choice was the best guess" if best == selection.arm else "the choice was exploration"
        drawn = selection.arms[again.drawn]
        probability = (selection.probabilities or selection.shadow_probabilities or ())[again.drawn]
        yield f"{best} had the largest mean utility" + (f", so {explored}" if selection.fallback is None else "")
        yield f"the decision's id gives {again.random_number:.6f}, which draws {drawn} (propensity {probability:.4f})"
        if selection.fallback is not None:
            why = Fallback.sentence(selection.fallback)
            yield f"Conduit would have chosen {drawn}, but LiteLLM's own selection served. {why}"
    yield ""


def _consequences(found: "Explanation") -> Iterator[str]:
    for number, outcome in enumerate(found.outcomes):
        told = ((signal, getattr(outcome, signal.field)) for signal in AMOUNTS)
        amounts = "".join(f", {s.title} {amount:.3g} {s.unit}" for s, amount in told if amount is not None)
        failed = f" ({outcome.error_class})" if outcome.error_class else ""
        repeated = ", a duplicate" if number else ""
        yield f"outcome: {outcome.status}{failed}{amounts}{repeated}"
    known = set()
    for feedback in found.feedbacks:
        who = (feedback.source, feedback.key)
        repeated = ", a duplicate" if who in known else ""
        known.add(who)
        by = "/".join(part for part in who if part)
        yield f"feedback: {title_of(feedback.signal)} {feedback.quality:.3g} by {by}{repeated}"
    if not found.outcomes and not found.feedbacks:
        yield "no outcome or feedback has been logged"
    yield ""


def _named(arm: str, model: str) -> str:
    return f"{arm} ({model})" if model else arm
