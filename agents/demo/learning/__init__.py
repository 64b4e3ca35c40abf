"""Teach species that no tier knows, and compare: a demo that needs the training pictures, so it runs in a clone."""
