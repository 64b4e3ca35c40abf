"""`tierwise labels`: say what events show, and see what people said."""
