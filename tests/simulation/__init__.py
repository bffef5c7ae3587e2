"""The whole cache under a seeded random schedule, on a disk and against upstreams that fail."""
