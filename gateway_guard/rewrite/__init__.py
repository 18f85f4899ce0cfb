"""What goes to the model server and what comes back, rewritten: poorer where a profile says so, with its opaque state bound to its owner."""
