"""The learner at work: it follows the log, publishes snapshots, and says how it is."""
