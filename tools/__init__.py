"""Generate and check the project's pages; not part of the installed package."""
