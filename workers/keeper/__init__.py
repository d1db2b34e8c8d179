"""What a worker's main process does beside consuming: it moves what nobody moves."""
