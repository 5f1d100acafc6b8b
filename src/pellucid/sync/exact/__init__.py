"""Exact mode: the script sees one big machine. Start reading at `mode.py`."""
