"""``python -m conduit_learner`` is the ``conduit`` command."""

from conduit_learner.cli import main

main(prog_name="conduit")
