"""Learn from a site's own labels, request more labels, and notice drift."""
