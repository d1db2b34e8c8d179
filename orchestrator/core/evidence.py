"""What was tried and found out: backups, drills, smoke tests. Their age is what alerts and checks ask for."""

from enum import StrEnum


class Kind(StrEnum):
    """Of what."""

    BACKUP = "backup"  # a base backup was made
    DRILL = "drill"  # a backup was restored, and looked at
    SMOKE = "smoke"  # the whole way of a run was gone, through every queue
    FAILOVER = "failover"  # a server was taken away
    ALERT = "alert"  # an alert reached somebody
