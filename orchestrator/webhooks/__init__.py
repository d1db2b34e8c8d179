"""Webhooks in, the pure part: who may call, how a call is proved, what it says. Requests and times are arguments;
nothing here reads a clock, a file or the environment. What is accepted goes through `engine/webhooks`."""
