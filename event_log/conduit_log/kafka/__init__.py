"""A log on Apache Kafka 2.1 or newer, through aiokafka. No other package of Conduit imports that client."""

from conduit_log.kafka.log import KafkaLog

__all__ = ["KafkaLog"]
