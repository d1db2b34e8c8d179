"""Load with faults over the API: clients of HTTP and publishers of webhooks, while servers and processes die."""
