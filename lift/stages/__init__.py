"""The stages of a run: cached functions from typed values to typed values."""
