"""What a keeper asks for: rows that nobody else moves."""
