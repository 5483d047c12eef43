"""Sessions, caches, processes and machines that a run works with."""
