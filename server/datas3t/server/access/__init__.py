"""Who may do what: identities, their roles and patterns, and the tokens by which they are recognized.

`front/calls/guarded.py` compares an identity with what a method needs, which the contract says.
"""

from datas3t.server.access.audit import Audit
from datas3t.server.access.authenticator import Authenticator
from datas3t.server.access.identity import EVERYONE, Identity, role_name
from datas3t.server.access.patterns import ALL, Pattern

__all__ = ["ALL", "EVERYONE", "Audit", "Authenticator", "Identity", "Pattern", "role_name"]
