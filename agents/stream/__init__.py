"""Run the stream role: Faust routes records by privacy and folds labels."""
