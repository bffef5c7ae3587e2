"""Tests of the bench: of what in it is no measurement."""
