"""Tests of pipcache: edges."""
