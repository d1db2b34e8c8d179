"""The only place with SQL: the schema, every statement, transactions."""
