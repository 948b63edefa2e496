"""``conduit evaluate``: estimate what another policy would have achieved on the logged traffic."""

from collections.abc import Iterator, Mapping
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
from conduit_learner.commands.text import table
from conduit_log import LogSettings

if TYPE_CHECKING:
    from conduit_learner.evaluation.candidate_file import Candidate
    from conduit_learner.evaluation.estimators import Estimate
    from conduit_learner.evaluation.progressive import Evaluation

__all__ = ["evaluate"]


@click.command()
@source_options
@click.option(
    "--candidate",
    "file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="TOML file with at least one of [settings], [objective] and [features].",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0.0, 0.5, min_open=True),
    default=0.05,
    show_default=True,
    help="Error probability of the intervals; 0.05 gives 95 % intervals.",
)
@interruptible(lambda: "the evaluation did not finish; nothing was changed")
def evaluate(
    *, policy: str, archive: Path | None, settings: LogSettings, as_json: bool, file: Path, alpha: float
) -> None:
    """Estimate what another algorithm, objective or set of features would have achieved on the logged traffic.

    \b
    The candidate is a TOML file; settings that it omits stay as logged:
        [settings]
        algorithm = "linucb"          # also params, lambda_reg, window_size, ...
        params = { alpha = 0.5 }
        [objective]
        preset = "cost"               # or weights: quality, cost, latency, ttft
        [features]
        keep = ["0-15"]               # components of the context that it uses

    Intervals contain the true value with probability 1 - alpha. Without an [objective], each decision is scored with
    the objective it was made for.

    \b
    Example:  conduit evaluate --policy default/chat --candidate policy.toml
    """
    from conduit_learner.evaluation import progressive as library  # noqa: PLC0415 - loads river, which is an optional part
    from conduit_learner.evaluation.candidate_file import logged_settings, read_candidate  # noqa: PLC0415 - as above

    with opened_source(settings, archive) as source:
        history = source.history(policy)
        with progress_bar("evaluating", history.end) as show_progress:
            messages = TrackedHistory(history, show_progress)
            candidate = read_candidate(file, logged_settings(messages, policy))
            found = library.evaluate(
                messages,
                policy,
                settings=candidate.settings,
                objective=candidate.objective,
                features=candidate.features,
                alpha=alpha,
            )
        first = next(message.offset for message in history)
    warnings = list(found.warnings)
    if first > 0:
        warnings.append(f"the events before offset {first:,} were deleted, so the candidate did not learn from them")
    if as_json:
        echo_json(_fields(found, candidate, warnings, alpha))
    else:
        click.echo("\n".join(_lines(found, warnings, alpha)))


def _fields(found: "Evaluation", candidate: "Candidate", warnings: list[str], alpha: float) -> dict[str, Any]:
    return {
        "policy": found.policy,
        "candidate": {
            "settings": candidate.settings,
            "objective": candidate.objective,
            "features": candidate.features,
        },
        "alpha": alpha,
        "decisions": found.decisions,
        "left_out": found.left_out,
        "logged": found.logged,
        "estimates": found.estimates,
        "warnings": warnings,
    }


def _lines(found: "Evaluation", warnings: list[str], alpha: float) -> Iterator[str]:
    yield f"policy {found.policy}: {found.decisions:,} decisions, per decision"
    yield ""
    rows = [("measure", "logged", "candidate", f"{1.0 - alpha:.0%} interval", "method", "effective sample")]
    for measure, estimates in found.estimates.items():
        headline, logged = estimates[0], found.logged[measure]
        rows.append(
            (
                measure,
                _number(logged.value),
                _number(headline.value),
                f"{_number(headline.low)} .. {_number(headline.high)}",
                headline.method.replace("_", " "),
                f"{headline.effective_sample_size:,.0f} decisions",
            )
        )
    yield table(rows)
    notes = [*warnings, *_headline_warnings(found.estimates)]
    if notes:
        yield ""
    for warning in notes:
        yield f"note: {warning}"


def _headline_warnings(estimates: "Mapping[str, tuple[Estimate, ...]]") -> Iterator[str]:
    measures: dict[str, list[str]] = {}
    for measure, (headline, *_) in estimates.items():
        for warning in headline.warnings:
            measures.setdefault(warning, []).append(measure)
    for warning, names in measures.items():
        yield f"{', '.join(names)}: {warning}"


def _number(value: float) -> str:
    return f"{value:.4g}"
