"""`tierwise sightings`: sightings, live and in the past."""
