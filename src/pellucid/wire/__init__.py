"""What boxes say to each other: bytes in, events out. No socket, thread, clock or torch."""
