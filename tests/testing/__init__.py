"""The test kit, used as its users do."""
