"""The settings file: its keys, how it is read and checked, and the file that a first start writes."""
