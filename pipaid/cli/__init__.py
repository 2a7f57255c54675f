"""What a person types; a client of the control socket."""
