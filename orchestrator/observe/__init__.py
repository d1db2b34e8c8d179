"""What happened, for those who watch: log lines."""
