"""Files that survive a crash: written whole, private to their owner, named by their digest."""
