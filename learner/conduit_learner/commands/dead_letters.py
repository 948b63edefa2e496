"""``conduit dead-letters``: list the records that the learner could not use, and retry them."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from conduit_learner.commands.options import (
    as_json_option,
    echo_json,
    interruptible,
    log_options,
    opened_log,
    progress_bar,
)
from conduit_log import LogSettings
from conduit_schemas import DeadLetter

__all__ = ["dead_letters"]

# The library is imported inside the commands, so that other commands do not load it.

_SHOWN = 1_000

_reason_option = click.option(
    "--reason", "reasons", multiple=True, help="Only dead letters with this reason; repeatable."
)


@click.group("dead-letters")
def dead_letters() -> None:
    """List the records that the learner could not use, and retry them.

    \b
    Example:  conduit dead-letters list
              conduit dead-letters replay --reason newer_version
    """


@dead_letters.command("list")
@log_options
@_reason_option
@click.option(
    "--limit", type=click.IntRange(0), default=_SHOWN, show_default=True, help="How many of the newest to show."
)
@as_json_option
def list_(*, settings: LogSettings, reasons: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List dead letters: the position, time and reason of each, and how many there are.

    \b
    Example:  conduit dead-letters list --reason orphan --limit 20
    """
    from conduit_learner.audit import dead_letters as library  # noqa: PLC0415 - see above

    with opened_log(settings) as log:
        letters = _of(library.dead_letters(log), reasons)
    counts = dict(Counter(letter.reason for letter in letters).most_common())
    shown = sorted(letters, key=lambda letter: letter.time_ms)[max(0, len(letters) - limit) :]
    if as_json:
        echo_json({"count": len(letters), "reasons": counts, "dead_letters": shown})
        return
    for letter in shown:
        moment = datetime.fromtimestamp(letter.time_ms / 1000, UTC).isoformat(timespec="milliseconds")
        again = ", retried" if letter.replayed_at is not None else ""
        click.echo(f"{moment}  {letter.place}  {letter.reason}{again}: {letter.message}")
    click.echo(f"{len(letters):,} dead letters" + "".join(f", {count:,} {reason}" for reason, count in counts.items()))


@dead_letters.command()
@log_options
@_reason_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@as_json_option
def replay(*, settings: LogSettings, reasons: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Append the original records to the event topic again, once you have fixed the cause.

    Only records that were stored in full and can be used now are retried, each of them once. Records that were learned
    from already have no effect, and outcomes whose decision is closed become dead letters with the reason orphan.

    \b
    Example:  conduit dead-letters replay --reason newer_version --yes
    """
    done = 0

    def summary() -> str:
        return f"appended at least {done:,} records; run the command again to continue (duplicates have no effect)"

    with interruptible(summary):
        from conduit_learner.audit import dead_letters as library  # noqa: PLC0415 - see above

    with interruptible(summary), opened_log(settings) as log:
        plan = library.plan_replay(_of(library.dead_letters(log), reasons))
        count = len(plan.replays)
        if not as_json:
            for reason, number in sorted(plan.left_out.items()):
                click.echo(f"left out: {number:,}. {reason.about} {reason.advice}".rstrip())
        if count and not yes:
            click.confirm(f"Append {count:,} records to {settings.topics.events}?", abort=True, err=True)
        with progress_bar("appending", count) as show_progress:

            def progress(appended: int) -> None:
                nonlocal done
                done += appended
                show_progress(done)

            library.replay_dead_letters(log, plan.replays, progress=progress)
    if as_json:
        echo_json({"replayed": count, "left_out": plan.left_out})
    else:
        click.echo(f"{count:,} records appended to {settings.topics.events} again")


def _of(letters: Sequence[DeadLetter], reasons: tuple[str, ...]) -> list[DeadLetter]:
    return [letter for letter in letters if not reasons or letter.reason in reasons]
