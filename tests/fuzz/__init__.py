"""Random input, near enough to what is valid to get far; the number of examples bounds the time."""
