"""``conduit warm-start``: learn from logs that are older than Conduit."""

import asyncio
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from conduit_learner.commands.options import as_json_option, echo_json, interruptible, log_options, policy_option
from conduit_log import LogSettings, Message, open_log
from conduit_schemas import ConfigurationError, encode

if TYPE_CHECKING:
    from conduit_learner.warm_start import Past

__all__ = ["warm_start"]

_BATCH = 200


def _renamed(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    pairs = [entry.partition("=") for entry in value]
    for old, _, new in pairs:
        if not (old and new):
            raise click.BadParameter(f"{old!r} is not OLD=NEW, as in gpt-4o=deployment-1")
    return {old: new for old, _, new in pairs}


@click.command("warm-start")
@policy_option
@log_options
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--arm",
    "renamed",
    multiple=True,
    callback=_renamed,
    metavar="OLD=NEW",
    help="What the files call OLD is the deployment id NEW; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Read and check the files, and write nothing.")
@as_json_option
def warm_start(
    *,
    policy: str,
    settings: LogSettings,
    files: tuple[Path, ...],
    renamed: dict[str, str],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Append what happened before Conduit did, so that it starts knowing it.

    FILES are spend-log exports of LiteLLM's, or logs of your own: .jsonl, .json, .csv or .parquet, one request a row.
    A row needs a deployment (model_id, arm); it may have status, spend or cost_usd, latency_s or startTime and
    endTime, prompt_tokens, completion_tokens, quality (0 to 1), messages, prompt or proxy_server_request, and, where it
    is known how the deployment was chosen, arms and probabilities. Prompts are turned into features here and not kept.

    Everything is checked before anything is written. Files given twice within a policy's feedback window count once.

    \b
    Example:  conduit warm-start --policy default/chat spend_logs.jsonl --arm gpt-4o=deployment-1
    """
    unread = "the files were not read to their end, and nothing was appended"
    with interruptible(lambda: unread):
        from conduit_learner.warm_start import read_past  # noqa: PLC0415 - not needed by the other commands

    if "/" not in policy:
        raise ConfigurationError(f"{policy!r} is no policy: name it NAMESPACE/GROUP, as in default/chat")
    with interruptible(lambda: unread):
        past = read_past(files, policy, renamed=renamed)
    if not past.events:
        raise ConfigurationError(f"the files hold no request of {policy}; {past.other_groups:,} of other model groups")
    if not dry_run:
        _append(settings, policy, past)
    fields = {
        "policy": policy,
        "requests": len(past.events),
        "with_quality": past.with_quality,
        "with_text": past.with_text,
        "with_probabilities": past.with_probabilities,
        "other_groups": past.other_groups,
        "unserved": past.unserved,
        "arms": list(past.arms),
        "written": not dry_run,
    }
    if as_json:
        echo_json(fields)
        return
    click.echo(
        f"{policy}: {'checked' if dry_run else 'appended'} {len(past.events):,} requests to {', '.join(past.arms)}; "
        f"{past.with_quality:,} with quality, {past.with_text:,} with a prompt, {past.with_probabilities:,} with "
        f"probabilities; left out {past.other_groups:,} of other model groups, {past.unserved:,} that no deployment got"
    )
    if not past.with_quality:
        click.echo("note: without quality Conduit learns cost, latency and failures, and does not choose by price")


def _append(settings: LogSettings, policy: str, past: "Past") -> None:
    messages = (Message(policy.encode(), encode(event)) for event in chain.from_iterable(past.events))
    done = 0

    def said() -> str:
        return (
            f"at least {done:,} of {sum(map(len, past.events)):,} events were appended; give the same files again for "
            "the rest, what is there counts once"
        )

    async def run() -> None:
        nonlocal done
        async with open_log(settings) as log:
            await log.create_topics()
            while batch := list(islice(messages, _BATCH)):
                await log.append(settings.topics.events, batch)
                done += len(batch)

    with interruptible(said):
        asyncio.run(run())
