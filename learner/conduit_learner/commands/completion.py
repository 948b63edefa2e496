"""``conduit completion``: shell completion for commands and options."""

import click
from click.shell_completion import get_completion_class

from conduit_schemas import ConfigurationError

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that makes your shell complete conduit's commands and options.

    \b
    Example:  conduit completion bash > ~/.local/share/bash-completion/completions/conduit
              eval "$(conduit completion zsh)"
              conduit completion fish > ~/.config/fish/completions/conduit.fish
    """
    found = get_completion_class(shell)
    if found is None:
        raise ConfigurationError(f"the installed version of click has no completion for {shell}: upgrade it")
    click.echo(found(ctx.find_root().command, {}, "conduit", "_CONDUIT_COMPLETE").source())
