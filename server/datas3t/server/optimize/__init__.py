"""A plan of aggregates that are worth their cost: merges of small archives, scored by requests saved per byte moved."""

from datas3t.server.optimize.proposals import Proposal, plan, propose

__all__ = ["Proposal", "plan", "propose"]
