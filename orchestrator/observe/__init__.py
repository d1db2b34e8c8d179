"""What happened, told to those who watch: log lines."""
