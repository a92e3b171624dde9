"""Pure rules say what follows what in a delivery's life."""
