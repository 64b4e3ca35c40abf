"""What `tierwise bench` measures: our parts against their peers, as ratios of one run on one machine."""
