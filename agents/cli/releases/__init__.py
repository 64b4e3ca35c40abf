"""`tierwise releases`: which release serves where, how it was made, and what comes next."""
