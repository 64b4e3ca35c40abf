"""`tierwise sightings`: what was seen, live and in the past."""
