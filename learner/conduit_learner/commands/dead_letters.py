"""``conduit dead-letters``: what could not be learned from, and another chance for it."""

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

# The library is imported inside the commands, as everywhere: what is not called for is not loaded.

_SHOWN = 1_000

_reason_option = click.option("--reason", "reasons", multiple=True, help="Only those of this reason; may be repeated.")


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at records that could not be learned from, and try them again.

    \b
    Example:  conduit dead-letters list
              conduit dead-letters replay --reason newer_version
    """


@dead_letters.command("list")
@log_options
@_reason_option
@click.option("--limit", type=click.IntRange(0), default=_SHOWN, show_default=True, help="Show the newest so many.")
@as_json_option
def list_(*, settings: LogSettings, reasons: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List them: where each stood, when, why, and how many there are.

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
        again = ", tried again" if letter.replayed_at is not None else ""
        place = f"{letter.topic}/{letter.partition}/{letter.offset}"
        click.echo(f"{moment}  {place}  {letter.reason}{again}: {letter.message}")
    click.echo(f"{len(letters):,} dead letters" + "".join(f", {count:,} {reason}" for reason, count in counts.items()))


@dead_letters.command()
@log_options
@_reason_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
def replay(*, settings: LogSettings, reasons: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Append the original records to the event topic again, after what was wrong has been put right.

    Only records that are known in full and can be used now are tried; each once. What has been learned already changes
    nothing, and outcomes whose decision is closed come back as orphans.

    \b
    Example:  conduit dead-letters replay --reason newer_version --yes
    """
    done = 0

    def said() -> str:
        return f"at least {done:,} records were appended again; run it again for the rest, what comes twice counts once"

    with interruptible(said):
        from conduit_learner.audit import dead_letters as library  # noqa: PLC0415 - see above

    with interruptible(said), opened_log(settings) as log:
        plan = library.plan_replay(_of(library.dead_letters(log), reasons))
        count = len(plan.replays)
        if not as_json:
            for reason, number in sorted(plan.left_out.items()):
                click.echo(f"left out: {number:,}, {reason}")
        if count and not yes:
            click.confirm(f"Append {count:,} records to {settings.topics.events}?", abort=True, err=True)
        with progress_bar("appending", count) as tell:

            def progress(appended: int) -> None:
                nonlocal done
                done += appended
                tell(done)

            library.replay_dead_letters(log, plan.replays, progress=progress)
    if as_json:
        echo_json({"replayed": count, "left_out": plan.left_out})
    else:
        click.echo(f"{count:,} records appended to {settings.topics.events} again")


def _of(letters: Sequence[DeadLetter], reasons: tuple[str, ...]) -> list[DeadLetter]:
    return [letter for letter in letters if not reasons or letter.reason in reasons]
