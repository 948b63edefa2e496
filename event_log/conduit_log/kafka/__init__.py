"""A log on Apache Kafka 2.1 or newer, with the aiokafka client, which no other package of Conduit imports."""

from conduit_log.kafka.log import KafkaLog

__all__ = ["KafkaLog"]
