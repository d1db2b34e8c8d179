"""What a client does besides runs and schedules, by resource: `client.keys`, `client.users` and so on.

members.py    the groups that a client has, as properties
keys.py       API keys
users.py      people who sign in
audit.py      what people and programs did
flows.py      what is registered, versions, switching flows
trials.py     backups, drills, smoke tests
workers.py    the processes that serve them
webhooks.py   what publishers call, and what came
subscriptions.py, notifications.py   who is told what, and what they are told

Each has its twin of the same surface in `remote/groups`.
"""
