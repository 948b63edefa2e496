"""The threads behind a strategy: its event loop, the log it serves, the learner it may host."""
