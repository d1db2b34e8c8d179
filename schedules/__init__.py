"""Time inside Celery beat: RedBeat announces ticks, the ledger decides them.

message.py    the message of a tick
clock.py      the ledger's time, in a process with any clock
entry.py      a RedBeat entry whose schedule is ours
store.py      RedBeat's keys in Redis
mirror.py     what to change there (pure)
reconcile.py  ledger to Redis, again and again
config.py     how Celery gets to know it
beat.py       the scheduler
"""

if __name__ == "schedules":
    raise ImportError("this folder is imported as orchestrator.schedules", name=__name__)
