"""Tests of pipcache; the folders mirror the package."""
