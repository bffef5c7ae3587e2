"""What pipcache decides: pure functions over values. No Twisted, no files, no clock, no randomness."""
