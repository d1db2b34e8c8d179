"""From the claim of a step to its recorded end, and what its end opens."""
