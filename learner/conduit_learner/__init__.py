"""Who learns: a pure core that turns the event log into snapshots, a worker that runs it, the command line."""
