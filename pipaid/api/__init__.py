"""The HTTP API: a process of its own that takes requests and passes them on to the daemon, which judges them."""
