"""The client over HTTP: the same surface, where only the API can be reached.

transport.py  requests, retries where these are harmless, problems as errors
client.py     `HttpClient`
run.py        a run
schedule.py   a schedule
"""
