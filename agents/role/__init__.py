"""Provide every role with its lifecycle, logs, metrics, health server, presence and outbox."""
