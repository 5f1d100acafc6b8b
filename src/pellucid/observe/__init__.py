"""What a person or a program can watch of a run: status, messages, events, summary."""
