"""nector-relay: a Nector loyalty event becomes one right WhatsApp message."""
