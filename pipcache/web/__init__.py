"""How a request comes in over HTTP: the resource tree and how an outcome becomes a response."""
