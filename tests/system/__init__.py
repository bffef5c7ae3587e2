"""Tests of pipcache: system."""
