"""The durable store behind one Protocol: what must last is here."""
