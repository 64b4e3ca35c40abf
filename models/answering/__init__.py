"""How device, edge and cloud answer an event: pure functions that the roles, the commands and the benchmarks share."""
