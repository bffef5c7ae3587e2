"""The simple repository API (PEP 503 and those after it): its pages as values, parsed, rewritten, rendered."""
