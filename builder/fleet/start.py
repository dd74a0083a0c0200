"""Makes a job of what is wanted and of how the nodes are."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from builder.fleet.job import TAKEN, UNREACHABLE, UNTOUCHED, WAITING, Job, Kind, Limits, Result
from builder.fleet.nodes import Node
from builder.fleet.survey import Condition
from builder.fleet.waves import Candidate
from imgnode.release.versions import is_older


def stand(one: Condition, version: str) -> Result:
    """Return what is to be done with a node that shall have `version`: nothing, or to wait."""
    if not one.answers:
        return silent(one)
    if one.version == version:
        return Result(outcome="there", version=one.version)
    if is_older(version, one.version):
        return Result(outcome="newer", version=one.version)
    return Result(version=one.version)


def silent(one: Condition) -> Result:
    """Return what is told of a node that does not answer."""
    return Result(outcome=UNREACHABLE, text=one.text.removeprefix(f"{UNREACHABLE}: "))


def order(nodes: Sequence[Node], limits: Limits) -> list[Node]:
    """Return the nodes in the order in which waves take them."""
    return sorted(nodes, key=lambda one: (one.rack if limits.by_rack else "", one.name))


def rollout(
    nodes: Sequence[Node],
    known: Mapping[str, Condition],
    version: str,
    limits: Limits,
    who: str,
    more: Mapping[str, Any],
) -> Job:
    """Return the job that brings `version` onto nodes."""
    hosts = {one.name: stand(known[one.name], version) for one in order(nodes, limits)}
    return _job("rollout", {"fleet_version": version, **more}, hosts, limits, who)


def update_model(
    nodes: Sequence[Node],
    known: Mapping[str, Condition],
    values: Mapping[str, Any],
    limits: Limits,
    who: str,
) -> Job:
    """Return the job that changes what nodes serve."""
    hosts = {}
    for node in order(nodes, limits):
        one = known[node.name]
        hosts[node.name] = Result(version=one.version) if one.answers else silent(one)
    return _job("update-model", {"fleet_model": dict(values)}, hosts, limits, who)


def rollback(job: Job, who: str) -> Job:
    """Return the job that takes a rollout back on every node that it has touched."""
    hosts = {
        name: Result(version=one.version)
        for name, one in job.hosts.items()
        if one.wave is not None and one.outcome not in UNTOUCHED
    }
    made = _job(
        "rollback", {"fleet_version": job.variables["fleet_version"]}, hosts, job.limits, who
    )
    calm = job.limits.model_copy(update={"max_failed_percent": 100.0, "min_replicas": 0})
    return made.model_copy(update={"wave": 1, "limits": calm})


def candidates(job: Job, nodes: Sequence[Node], known: Mapping[str, Condition]) -> list[Candidate]:
    """Return the nodes as waves are made of them: the job's own in its order, then all others.

    For an update of the model, nodes of one wanted model stand for each other whatever they serve
    just now: half of them serve the new one in the middle of it.
    """
    by_name = {one.name: one for one in nodes}
    names = [name for name in job.hosts if name in by_name]
    names += [one.name for one in nodes if one.name not in job.hosts]
    found = []
    for name in names:
        serving = known[name].serving
        if serving and job.kind == "update-model":
            serving = by_name[name].model or serving
        found.append(Candidate(name, by_name[name].rack, serving))
    return found


def again(job: Job, known: Mapping[str, Condition]) -> Job:
    """Return a job that was cut off, with what nodes say now: those that answer again wait."""
    changed = {}
    for name, one in job.hosts.items():
        back = one.outcome == UNREACHABLE and one.wave is None and known[name].answers
        if back:
            changed[name] = Result(version=known[name].version)
        elif one.outcome == WAITING and not known[name].answers:
            changed[name] = silent(known[name])
        elif one.outcome == TAKEN:
            changed[name] = one
    return job.put(changed)


def _job(
    kind: Kind, variables: dict[str, Any], hosts: dict[str, Result], limits: Limits, who: str
) -> Job:
    name = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return Job(name=name, kind=kind, who=who, variables=variables, limits=limits, hosts=hosts)
