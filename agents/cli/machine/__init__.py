"""What sees to this machine: start and stop everything, check it, run one role."""
