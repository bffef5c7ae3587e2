"""Tests of pipcache: rules."""
