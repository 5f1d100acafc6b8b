"""What the modes share. Most of it: how a script is answered whose workers do not wait."""
