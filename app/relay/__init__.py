"""What moves: the way in, the lanes, the receipts."""
