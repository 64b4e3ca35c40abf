"""Additive sums over labelled features, and the fold that keeps them exact."""
