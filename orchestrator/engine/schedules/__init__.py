"""Deciding ticks, and what operators do to schedules."""
