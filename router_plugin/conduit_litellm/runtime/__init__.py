"""The threads behind a strategy: an event loop, the connection to the log, a hosted learner."""
