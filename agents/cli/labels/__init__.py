"""`tierwise labels`: label events, and list the labels that people gave."""
