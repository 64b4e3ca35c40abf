"""`python -m agents`: the same as the `tierwise` command."""

from agents.cli import main

if __name__ == "__main__":
    main()
