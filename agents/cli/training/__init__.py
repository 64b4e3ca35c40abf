"""`tierwise training`: ask the trainer for a training, and read its reports."""
