"""The words of the project as values; nothing here imports another part of ours."""
