"""The Celery configuration of everything that talks to the broker: ours, safe, JSON only."""

from typing import Any

from celery import Celery

from orchestrator.servers.broker import ssl_options, transport_options
from orchestrator.settings import Settings


def broker_config(settings: Settings) -> dict[str, Any]:
    """The part of `app.conf` that senders, workers, beats and Flower share."""
    return {
        "broker_url": settings.require_broker_url(),
        "broker_use_ssl": ssl_options(settings),
        "broker_transport_options": transport_options(settings),
        "task_ignore_result": True,
        "result_backend": None,
        "task_send_sent_event": False,
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "task_protocol": 2,
        "enable_utc": True,
        "timezone": "UTC",
        "task_default_queue": "default",
    }


def sending_app(settings: Settings) -> Celery:
    """An app that can send and nothing else.

    Raises:
        SettingsInvalid: there is no broker URL.
    """
    app = Celery("orchestrator", set_as_current=False)
    app.conf.update(broker_config(settings))
    return app
