"""HTTP in: Nector's webhooks, the providers' receipts, and the ops API."""
