"""All settings, group by group; nothing but their names, types, defaults and meanings."""

from orchestrator.settings.database import Database
from orchestrator.settings.edge import Edge
from orchestrator.settings.redis import Redis
from orchestrator.settings.telemetry import Telemetry
from orchestrator.settings.webhooks import Webhooks
from orchestrator.settings.work import Work


class Fields(Telemetry, Edge, Webhooks, Redis, Work, Database):
    """Every field of `Settings`, listed from the last group to the first."""
