"""Tests of pipcache: simple."""
