"""Answer an event on device, edge and cloud: pure functions that roles, commands and benchmarks share."""
