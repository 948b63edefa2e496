"""The learner: a pure core that turns the event log into snapshots, a worker that runs it, and the command line."""
