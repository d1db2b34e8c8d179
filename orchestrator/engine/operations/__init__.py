"""One act on many runs, as a thing that lasts: made by a person, worked off by keepers."""
