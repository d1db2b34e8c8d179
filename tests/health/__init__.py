"""What processes say of their health, to probes and to systemd."""
