"""A provider of identities (OpenID Connect): what it publishes, what it says of somebody, and whether it said it."""
