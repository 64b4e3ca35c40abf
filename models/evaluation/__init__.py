"""Measure the tiers on labelled photos, and the value of a site's labels."""
