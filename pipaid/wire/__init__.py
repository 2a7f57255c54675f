"""Floor 3: bytes on sockets."""
