"""The subcommands of ``conduit``. Each command imports what it needs only when it runs."""
