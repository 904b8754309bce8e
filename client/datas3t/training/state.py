"""The state of a training run: what it has read, as a small JSON object, and what to do if the keys are others now."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from datas3t.client import FailedPrecondition, InvalidArgument, KeySet
from datas3t.training.order import Order

OnChange: TypeAlias = Literal["raise", "continue"]
State: TypeAlias = dict[str, Any]

VERSION = 1


def saved(keys: KeySet, now: KeySet, order: Order, epoch: int, position: int) -> State:
    """Return the state of a run.

    Args:
        keys: The keys that the epoch reads.
        now: The keys of the next epoch; others if they changed during this one.
        order: The order of this epoch.
        epoch: Its number.
        position: How many of its places were read.
    """
    settings: State = {"length": order.length, "seed": order.seed, "shuffle": order.shuffle}
    if order.shuffle == "window":
        settings |= {"block": order.block, "window": order.window}
    state: State = {"version": VERSION, "keys": keys.digest, "order": settings, "epoch": epoch, "position": position}
    if now is not keys:
        state |= {
            "came": [list(span) for span in (now - keys).spans],
            "went": [list(span) for span in (keys - now).spans],
        }
    return state


def check_settings(state: Mapping[str, Any], order: Order) -> None:
    """Check that a state was saved by a run with this order.

    Raises:
        InvalidArgument: It is no state, is from a later version, or has another seed or shuffle.
    """
    try:
        version, length = state["version"], state["order"]["length"]
        wanted = {name: state["order"].get(name) for name in ("seed", "shuffle", "block", "window")}
        place = state["epoch"], state["position"]
    except (KeyError, TypeError, AttributeError):
        raise InvalidArgument("this is not the state of a training run; pass what state_dict returned") from None
    if version != VERSION:
        raise InvalidArgument(f"the state has version {version!r}, and this datas3t knows {VERSION}; upgrade it")
    if any(type(number) is not int or number < 0 for number in (*place, length)) or place[1] > length:
        raise InvalidArgument(f"the state is damaged: position {place[1]!r} of {length!r} in epoch {place[0]!r}")
    for name, value in wanted.items():
        mine = getattr(order, name)
        if value is not None and value != mine:
            raise InvalidArgument(f"the state was saved with {name}={value!r}, but this run has {mine!r}; use the same")


def keys_of(state: Mapping[str, Any], now: KeySet, before: KeySet | None, on_change: OnChange) -> KeySet:
    """Return the keys that the epoch of a state reads.

    Raises:
        FailedPrecondition: They are not `now`, and `on_change` is "raise", or what they were cannot be known.
        InvalidArgument: `on_change` is something else.
    """
    if on_change not in ("raise", "continue"):
        raise InvalidArgument(f"on_change must be 'raise' or 'continue', but is {on_change!r}")
    digest, length = state["keys"], state["order"]["length"]
    if now.digest == digest or (on_change == "continue" and not state["position"]):
        return now
    came, went = (KeySet.of(state.get(name, ())) for name in ("came", "went"))
    changed = (now - came) | went
    if (came or went) and changed.digest == digest and (changed | came) - went == now:
        return changed  # the run has continued with these keys before
    for keys in (before, changed, now[:length]):  # the last: all that came are above the others
        if keys is not None and keys.digest == digest:
            break
    else:
        raise FailedPrecondition(
            f"the state was saved with other keys, {length} then and {len(now)} now; pass them as `before`, a KeySet,"
            " to continue, or start from the first epoch"
        )
    if on_change == "raise":
        gone, new = len(keys - now), len(now - keys)
        raise FailedPrecondition(
            f"the state was saved with {length} keys: {gone} of them are gone, and {new} came; pass"
            " on_change='continue' to finish the epoch without those that are gone",
            metadata={"came": str(new), "went": str(gone)},
        )
    return keys
