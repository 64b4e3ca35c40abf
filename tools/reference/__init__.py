"""The reference pages, generated from the code: settings, topics, messages, the command line, an AsyncAPI document.

`python -m tools.reference` (or `make reference`) writes them; a test compares the committed files with what it returns.
"""
