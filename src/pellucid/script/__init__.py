"""Run the user's program as python would."""
