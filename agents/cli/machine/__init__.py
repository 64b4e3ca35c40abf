"""Commands for this machine: start and stop everything, check it, run one role."""
