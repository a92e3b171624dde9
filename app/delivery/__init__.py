"""What follows what: pure rules of a delivery's life."""
