"""Measure our parts beside their peers for `tierwise bench`, as ratios within one run on one machine."""
