"""What happens to a request: the cache, the fetches in progress and the clients that follow them."""
