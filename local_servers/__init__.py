"""Servers that tests and benchmarks run on this machine: a Kafka broker, and one that stands for model providers."""
