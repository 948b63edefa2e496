"""``conduit warm-start``: learn from existing request logs."""

import asyncio
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from conduit_learner.commands.options import as_json_option, echo_json, interruptible, log_options, policy_option
from conduit_log import LogSettings, Message, open_log
from conduit_schemas import ConfigurationError, encode

if TYPE_CHECKING:
    from conduit_learner.warm_start.past import Past

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
    help="Use the deployment id NEW for what the files call OLD; repeatable.",
)
@click.option(
    "--featurizer",
    envvar="CONDUIT_FEATURIZER",
    metavar="NAME",
    help="The featurizer of the policy's applications: its name or package.module:attribute "
    "[env: CONDUIT_FEATURIZER; default: text64-v2].",
)
@click.option("--dry-run", is_flag=True, help="Read and check the files, and write nothing.")
@as_json_option
def warm_start(
    *,
    policy: str,
    settings: LogSettings,
    files: tuple[Path, ...],
    renamed: dict[str, str],
    featurizer: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Let Conduit learn from requests that were served before it was installed.

    FILES are LiteLLM spend-log exports or your own logs, as .jsonl, .json, .csv or .parquet, with one request per row.
    A row needs a deployment (model_id, arm). It may have status, spend or cost_usd, latency_s or startTime and
    endTime, prompt_tokens, completion_tokens, quality (0 to 1), and messages, prompt or proxy_server_request. If you
    know how the deployment was chosen, add arms and probabilities. Prompts are converted to features here and are not
    stored.

    All rows are checked before anything is written. Files appended again within a policy's feedback window count once.

    \b
    Example:  conduit warm-start --policy default/chat spend_logs.jsonl --arm gpt-4o=deployment-1
    """
    unread = "reading the files did not finish, and nothing was appended"
    with interruptible(lambda: unread):
        from conduit_learner.warm_start.past import read_past  # noqa: PLC0415 - not needed by the other commands

    if "/" not in policy:
        raise ConfigurationError(f"{policy!r} is not a policy name: use NAMESPACE/GROUP, as in default/chat")
    with interruptible(lambda: unread):
        past = read_past(files, policy, renamed=renamed, featurizer=featurizer)
    if not past.events:
        raise ConfigurationError(
            f"the files hold no request of {policy}, and {past.other_groups:,} requests of other model groups"
        )
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
        f"probabilities; left out {past.other_groups:,} of other model groups and {past.unserved:,} that failed before "
        "a deployment was chosen"
    )
    if not past.with_quality:
        click.echo("note: without quality, Conduit learns cost, latency and failures, but does not choose by price")


def _append(settings: LogSettings, policy: str, past: "Past") -> None:
    messages = (Message(policy.encode(), encode(event)) for event in chain.from_iterable(past.events))
    done = 0

    def summary() -> str:
        return (
            f"appended at least {done:,} of {sum(map(len, past.events)):,} events; run the command again with the same "
            "files to continue (duplicates have no effect)"
        )

    async def run() -> None:
        nonlocal done
        async with open_log(settings) as log:
            await log.create_topics()
            while batch := list(islice(messages, _BATCH)):
                await log.append(settings.topics.events, batch)
                done += len(batch)

    with interruptible(summary):
        asyncio.run(run())
