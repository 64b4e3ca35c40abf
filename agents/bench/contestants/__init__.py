"""One program for each way to route, started by `agents.bench.route`; each imports nothing of another.

A contestant gets its job as JSON (address, count, input, outputs by privacy, folder), routes that many records, and
prints ``{"wall_s", "cpu_s"}`` between its first record and the acknowledgement of its last.
"""
