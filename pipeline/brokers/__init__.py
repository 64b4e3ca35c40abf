"""The embedded brokers that `tierwise up` starts on one machine."""
