"""The senders of events: one file each."""
