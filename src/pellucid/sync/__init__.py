"""The modes: how the workers keep in step."""
