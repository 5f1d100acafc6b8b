"""From one command to many processes: start the workers, watch over them, end with them."""
