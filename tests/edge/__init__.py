"""Those who come by HTTP: who starts runs, who publishes webhooks, who listens; and what they were told."""
