"""Where long outputs are kept outside of the ledger: a folder that all hosts share, or a bucket.

payloads.py  what the rest of the program uses: threshold, hash, mark
store.py     what a store can do
folder.py  bucket.py   the two of them
"""

from orchestrator.payloads.payloads import Payloads

__all__ = ["Payloads"]
