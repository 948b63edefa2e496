"""The subcommands of ``conduit``. Each command imports its library only when it runs."""
