"""What happens, told to others: who subscribes, what is sent to them, and sending it."""
