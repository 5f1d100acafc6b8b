"""Hogwild: the workers of one box write one weight array, without locks and without waiting."""
