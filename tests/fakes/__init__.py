"""Tests of pipcache: fakes."""
