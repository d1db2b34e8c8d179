"""Time rules: when a schedule fires next, and how a firing becomes a run. Holds no code yet."""
