"""Who may come in through the API: keys, users, their sessions; and the audit of what was done."""
