"""Who is here: what this box has."""
