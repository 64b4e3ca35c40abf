"""The edge agent and its parts."""
