"""What operators see of the server: its log and its metrics."""
