"""Lanes of the queues: who waits for whom never shares slots.

A function that calls another one through the API holds its slot while it waits. If callees
needed slots of the same kind, enough callers would fill a worker and nothing could ever end. So
each depth of a chain has a lane of its own, and the deepest one always gets on. The same holds
for turns that functions start; turns of sub-agents have a lane so that a flood of new messages
does not keep the answers to earlier ones waiting, and those of batches so that people need not
wait behind a thousand of them.
"""

from typing import Final

from sinas.settings import FunctionSettings, Settings

# Where chains have no limit: deeper calls share the last lane.
_DEPTHS_WITHOUT_LIMIT: Final = 8
SUB_AGENTS: Final = ":sub"
BATCHES: Final = ":batch"
# Of the functions queue, for what needs no sandbox: files that are read for search.
INDEX: Final = ":index"


def function_lane(limits: FunctionSettings, *, depth: int, shared: bool) -> str:
    """The lane of one call, as a suffix of the queue's key.

    Args:
        limits: For the longest chain.
        depth: 1 for a call from outside.
        shared: Whether it runs in the shared pool.
    """
    level = min(depth, _depths(limits)) - 1
    return (":shared" if shared else "") + (f":{level}" if level else "")


def function_lanes(settings: Settings) -> dict[str, int]:
    """Every lane with its slots in one worker.

    Calls from outside leave enough of SANDBOX_MAX_SIZE for those that functions make.
    """
    queue = settings.queue
    nested = queue.nested_concurrency * (_depths(settings.function) - 1)
    outer = max(1, min(queue.function_concurrency, settings.sandbox.max_size - nested))
    lanes = {}
    for depth in range(1, _depths(settings.function) + 1):
        own = outer if depth == 1 else queue.nested_concurrency
        lanes[function_lane(settings.function, depth=depth, shared=False)] = own
        lanes[function_lane(settings.function, depth=depth, shared=True)] = queue.shared_concurrency
    lanes[INDEX] = queue.index_concurrency
    return lanes


def agent_lane(
    limits: FunctionSettings, *, depth: int, is_sub_agent: bool = False, is_in_batch: bool = False
) -> str:
    """The lane of one turn, as a suffix of the queue's key.

    Args:
        limits: For the longest chain.
        depth: How many executions wait for it; 0 for a person's message.
        is_sub_agent: Whether another agent called this one.
        is_in_batch: Whether it is one of many; those that functions start count as theirs.
    """
    level = min(depth, _depths(limits))
    if is_in_batch and not level:
        return BATCHES
    return (SUB_AGENTS if is_sub_agent else "") + (f":{level}" if level else "")


def agent_lanes(settings: Settings) -> dict[str, int]:
    """Every lane of the agents queue with its slots in one worker."""
    queue = settings.queue
    lanes = {}
    for depth in range(_depths(settings.function) + 1):
        for is_sub_agent, outer in (
            (False, queue.agent_concurrency),
            (True, queue.sub_agent_concurrency),
        ):
            slots = queue.nested_agent_concurrency if depth else outer
            lanes[agent_lane(settings.function, depth=depth, is_sub_agent=is_sub_agent)] = slots
    lanes[BATCHES] = queue.agent_batch_concurrency
    return lanes


def sandboxes_needed(settings: Settings) -> int:
    """How many sandboxes one worker may lease at the same time, whatever waits for what."""
    lanes = function_lanes(settings)
    slots = sum(
        count for suffix, count in lanes.items() if not suffix.startswith((":shared", INDEX))
    )
    return max(settings.sandbox.max_size, slots)


def _depths(limits: FunctionSettings) -> int:
    return limits.max_depth or _DEPTHS_WITHOUT_LIMIT
