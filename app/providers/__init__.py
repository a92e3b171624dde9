"""Senders of WhatsApp messages: one file each, behind one Protocol."""
