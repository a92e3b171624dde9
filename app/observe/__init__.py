"""What is told of a running relay: logs, metrics, traces."""
