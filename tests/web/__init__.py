"""Tests of pipcache: web."""
