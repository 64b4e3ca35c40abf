"""Start brokers and roles on one machine, watch them, and start them again."""
