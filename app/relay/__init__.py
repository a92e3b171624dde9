"""The moving parts: the way in, the lanes, the receipts."""
