"""Run the trainer: fit heads from sums, test them, and sign releases."""
