"""Benchmarks of `tierwise bench`: our parts against their peers, as ratios of one run on one machine."""
