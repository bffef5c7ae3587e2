"""Tests of pipcache: service."""
