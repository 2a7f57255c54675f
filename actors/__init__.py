"""Floor 5: everything that owns a task and a mailbox."""
