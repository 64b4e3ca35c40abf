"""The way of the data between the roles: messages, topics, MQTT, Kafka, the spool, privacy, settings."""
