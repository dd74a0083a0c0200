"""`imgnode serve run`: the whole life of one start of vllm.service, in one process.

config in force → secrets → model → image known to Docker → container → first token →
READY=1 → wait until the container ends or systemd says stop.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import NoReturn

from imgnode.fault import CONTAINER, DOCKER, IMAGE, OF_THE_NODE, TIMEOUT, Fault
from imgnode.gpu import nodes as gpu_nodes
from imgnode.layers.heal import heal
from imgnode.layers.versions import running_stem
from imgnode.maintain.models import mark_used
from imgnode.models.mirror import Mirror
from imgnode.models.provide import provide
from imgnode.process import Child
from imgnode.serve import (
    cache,
    choice,
    confine,
    copied,
    diagnose,
    docker,
    gpus,
    override,
    probe,
    secrets,
)
from imgnode.serve.command import Launch, argv, gpus_used, memory_limit, served_name
from imgnode.serve.facts import read_machine
from imgnode.serve.gpus import Handed
from imgnode.serve.plan import Plan, find_gpus, read_plan, read_wish, show
from imgnode.serve.report import FETCH, Reporter, skipped
from imgnode.serve.secrets import Secrets

_POLL_S = 2
_TELL_S = 5
_HEALTH_S = 5
_TOKEN_S = 120  # one token may take a minute on an emulated processor
_END_S = 15
_WAIT_S = 3600


class Stopped(BaseException):
    """systemd wants the service to end."""


def serve(root: Path = Path("/")) -> int:
    """Serve until the container ends (1) or the service is stopped (0).

    Raises OSError or ValueError when the image's own files are damaged.
    """
    signal.signal(signal.SIGTERM, _stop)
    try:
        return _serve(root, time.monotonic())
    except Stopped:
        return 0


def _serve(root: Path, began: float) -> int:
    plan = read_plan(root)
    if plan is None:
        skipped(root)
        return 0
    reporter = Reporter(plan.choice, began, root)
    start = Start(plan, reporter, root)
    try:
        reporter.open()
        start.run()
    except Stopped:
        start.stop()
        return 0
    except Fault as fault:
        start.fail(fault)
    except OSError as error:
        start.fail(Fault(IMAGE, f"{error.filename or 'disk'}: {error.strerror}"))
    return 1


def wanted(root: Path = Path("/")) -> bool:
    """Tell whether there is anything to serve, and note it where there is not."""
    if read_plan(root) is not None:
        return True
    skipped(root)
    return False


class Start:
    """One start of the service."""

    def __init__(self, plan: Plan, reporter: Reporter, root: Path) -> None:
        self._plan = plan
        self._reporter = reporter
        self._root = root
        self._settings = plan.choice.in_force
        self._before = choice.load_attempt(self._settings, root)
        self._counted = False
        self._ready = False
        self._child: Child | None = None
        self._pid = 0
        self._secrets = Secrets()
        self._limit = 0

    def run(self) -> NoReturn:
        """Start the server and watch it. Always raises: Fault when it ends, or Stopped."""
        self._count()
        launch = self._launch()
        words, env = argv(launch), self._secrets.env
        docker.remove_container()
        docker.ensure_network()
        self._child = docker.start_container(words, env)
        self._pid = self._child.pid
        self._await_token(self._child)
        self._proven()
        while (rc := self._child.wait(timeout_s=_WAIT_S)) is None:
            pass
        raise self._ended(rc)

    def stop(self) -> None:
        """Stop the container; a start that was cut off says nothing about the config."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self._child is not None:
            docker.stop_container()
            if self._child.wait(timeout_s=_END_S) is None:
                self._child.kill()
        if self._counted and not self._ready:
            choice.uncount(self._settings, self._before, self._root)
        self._reporter.stopped()

    def fail(self, fault: Fault) -> None:
        """Note the fault; one of the node itself does not count against the config."""
        fault = Fault(fault.kind, self._secrets.redact(str(fault)))
        if self._counted and fault.kind in OF_THE_NODE:
            choice.uncount(self._settings, self._before, self._root)
        elif self._counted:
            choice.failed(self._settings, fault.kind, str(fault), self._root)
        starts = choice.load_attempt(self._plan.choice.wanted, self._root).count
        self._reporter.failed(fault, starts)

    def _count(self) -> None:
        seed = read_wish(self._plan.facts.gpus, self._root).seed
        if override.drop_stale(seed, self._root):
            print("the seed's config has changed: what `imgnode model set` had set is dropped")
        choice.begin(self._settings, self._root)
        self._counted = True

    def _launch(self) -> Launch:
        """Collect what the container is made of. Raises Fault."""
        plan, settings = self._plan, self._settings
        handed = self._gpus()
        self._secrets = secrets.resolve(settings, secrets.credentials(self._root))
        mirror = Mirror(plan.facts.models, self._secrets.hf_token) if plan.facts.models else None
        weights = provide(
            settings["model"],
            settings.get("revision"),
            plan.payload,
            mirror,
            self._root,
            lambda text: self._reporter.loading(text, FETCH),
        )
        mark_used(weights)
        machine = read_machine(self._root)
        self._limit = memory_limit(plan.facts, machine)
        folder = cache.prepare(plan.image, self._root)
        image = self._image()
        confined = confine.profile(self._root)
        if confined is None:
            print(f"AppArmor: profile {confine.PROFILE} is not loaded: Docker's own rules hold")
        return Launch(plan.facts, machine, image, settings, weights.path, folder, handed, confined)

    def _gpus(self) -> Handed | None:
        """Return the GPUs of this start, set up for the container. Raises Fault."""
        plan = self._plan
        handed = find_gpus(plan, self._root)
        if handed is not None:
            gpus.check(handed, plan.facts, gpus_used(plan.facts, self._settings))
            gpu_nodes.link(self._root)
            if handed.placement is not None:
                docker.bind(handed.placement)
        return handed

    def _image(self) -> str:
        """Have Docker know the image; return what it knows it by. Raises Fault.

        Where it does not, its store is mended, and where that does not help it makes a copy.
        """
        image, root = self._plan.image, self._root
        for name in (copied.copy_id(image, root), image.reference):
            if name and docker.image_is_known(name):
                self._reporter.copied = name != image.reference
                return name
        self._reporter.loading("Docker does not know the image: mending its store")
        report = heal(root)
        if docker.image_is_known(image.reference):
            return image.reference
        self._reporter.copying(copied.check(image, report, root))
        return copied.make(image, root)

    def _await_token(self, child: Child) -> None:
        """Wait for the first token. Raises Fault when the server ends or takes too long."""
        facts, name = self._plan.facts.serve, served_name(self._settings)
        began = time.monotonic()
        told, healthy = float(-_TELL_S), False
        while True:
            rc = child.wait(timeout_s=_POLL_S)
            if rc is not None:
                raise self._ended(rc)
            wrong = None if healthy else probe.health(facts.port, timeout_s=_HEALTH_S)
            healthy = wrong is None
            if healthy:
                key = self._secrets.api_key
                wrong = probe.token(facts.port, name, key, timeout_s=_TOKEN_S)
            if wrong is None:
                return
            passed = time.monotonic() - began
            if passed > facts.start_timeout_s:
                self._too_late(child, wrong)
            if passed - told >= _TELL_S:
                told = passed
                self._reporter.progress(f"loading {show(self._settings)}: {passed:.0f} s")

    def _too_late(self, child: Child, answer: str) -> NoReturn:
        limit = self._plan.facts.serve.start_timeout_s
        docker.stop_container()
        child.wait(timeout_s=_END_S)
        fact = f"no token after {limit} s; last answer: {answer}"
        raise Fault(TIMEOUT, fact, "serve.start_timeout_s of the profile, if it needs longer")

    def _proven(self) -> None:
        """Keep a config that made a token, and say that it serves."""
        self._ready = True
        ready_s = round(time.monotonic() - self._reporter.began, 1)
        choice.save_proven(self._settings, time.time(), running_stem(self._root), self._root)
        choice.forget(self._settings, self._root)
        text = f"serving {show(self._settings)}, first token after {ready_s:.0f} s"
        self._reporter.serving(text, ready_s)

    def _ended(self, rc: int) -> Fault:
        """Return why the container ended; the server's own words where it had any."""
        self._child = None
        fault = docker.why_it_ended(rc, self._limit)
        if fault.kind not in (CONTAINER, DOCKER) or self._ready:
            return fault
        return diagnose.explain(diagnose.read_output(self._pid)) or fault


def _stop(_number: int, _frame: object) -> NoReturn:
    raise Stopped
