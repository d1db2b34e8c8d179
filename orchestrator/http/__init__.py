"""The HTTP API: a stateless door to the engine. Any number of replicas serve it, and none remembers anything.

app.py       the factory that wires everything
routers/     one module per resource: parse, call one function of the client, render
policy.py    who may ask for what, a line for each route
auth.py      the gate before every route
proxies.py   what proxies in front of it say
rates.py     counts that all replicas share
quotas.py    how much one may ask for in a minute
auditing.py  what operators did, in the audit
cors.py      pages of other sites
browsers.py  cookies, and requests that pages of other sites make
caller.py    who asks
bodies.py    JSON bodies, read strictly
routes.py    what every route has: strict parameters, `?fields=`, its documentation
problems.py  errors as problem details (RFC 9457), one table from errors to statuses
paging.py    cursors
tags.py      entity tags
waiting.py   `?wait=`, without a thread for each who waits
health.py    what the process says of itself and of what it needs
hub.py       what happens in all runs, told to every reader of the stream; readers.py: what each wants
stopping.py  whether it was told to stop
edge.py      what surrounds every request: limits, its id, security headers, a line in the log
metering.py  what it counts of requests and deliveries, and shows to Prometheus
"""
