"""Run the gateway: take uplink messages from MQTT into Kafka, and send answers down."""
