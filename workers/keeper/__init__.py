"""What a worker's main process does besides consuming: it moves what nobody else moves."""
