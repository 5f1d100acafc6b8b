"""What moves bytes between workers."""
