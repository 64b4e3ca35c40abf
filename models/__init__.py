"""Models of the tiers: how they answer, learn and travel."""
