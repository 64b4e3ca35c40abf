"""What a site learns from its own labels, when it asks for more, and how it notices drift."""
