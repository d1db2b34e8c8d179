"""What runs inside a Celery process: the app, one task per step type, the keeper, the heartbeat.

The folder stands at the top of the repository and is imported as `orchestrator.workers`. In a checkout
`celery -A workers worker` goes on working: the bare name is a door to `orchestrator.celery`, not a second copy.
"""

import sys

if __name__ == "workers":
    import orchestrator.celery

    sys.modules[__name__] = orchestrator.celery
