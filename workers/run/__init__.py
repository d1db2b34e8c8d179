"""One message: its step's claim, handler and recorded end, the lease meanwhile, and the next of the chain."""
