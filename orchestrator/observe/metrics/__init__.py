"""Metrics: the table of all there are, and the instruments of a process that shows them to Prometheus.

Only `instruments` needs prometheus-client: a process that shows nothing does not import it.
"""
