"""Servers that tests and benchmarks run on this machine: a Kafka broker, and a stand-in for model providers."""
