"""Where bytes move: the disk, the upstreams, the log."""
