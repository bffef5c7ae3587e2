"""Tests of pipcache: engine."""
