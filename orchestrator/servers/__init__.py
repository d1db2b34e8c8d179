"""How PostgreSQL and Redis are reached, what to do about what they say, and the embedded ones."""
