"""The client over HTTP: the same surface, where only the API can be reached.

transport.py  requests, retries where these are harmless, problems as errors
client.py     `HttpClient`
aclient.py    `AsyncHttpClient`: the same in threads, but for waits
waiting.py    waits for the ends of runs
run.py        a run
schedule.py   a schedule
"""
