"""Recipe of the backbone and its heads."""
