"""The worker that runs a learner: it follows the log, publishes snapshots, and reports its status."""
