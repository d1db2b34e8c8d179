"""When a schedule fires: rules and zones, without a clock. Instants are aware UTC datetimes in whole seconds."""

from orchestrator.core.timing.rules import Cron, Every, Rule, Timing

__all__ = ["Cron", "Every", "Rule", "Timing"]
