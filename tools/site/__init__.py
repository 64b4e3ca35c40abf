"""What the docs site needs beside its pages: a template, and the check of what was built."""
