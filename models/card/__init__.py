"""Answer a memory card's pictures: order and group them, ask several processes, keep answers for the next run."""
