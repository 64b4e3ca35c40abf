"""Commands for this machine: start and stop everything, check it, run a role."""
