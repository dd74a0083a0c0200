"""Talks to container registries by the build host's skopeo(1)."""

from __future__ import annotations

import os

from builder.core.errors import UserError
from builder.core.process import CommandError, Runner
from builder.core.sandbox import tied

_PASSED = ("HOME", "XDG_RUNTIME_DIR", "REGISTRY_AUTH_FILE", "SSL_CERT_FILE", "no_proxy")
_PROXIES = ("http_proxy", "https_proxy")


def ask_registry(runner: Runner, proxies: dict[str, str | None], source: str, *words: str) -> str:
    """Run skopeo WORDS, which concern the image `source`, with network; return what it prints.

    Credentials are those of this user (`skopeo login`). Raises UserError.
    """
    passed = {name: os.environ[name] for name in (*_PASSED, *_PROXIES) if name in os.environ}
    passed |= {f"{scheme}_proxy": value for scheme, value in proxies.items() if value}
    argv = tied(["skopeo", "--insecure-policy", *words])
    try:
        return runner.run(argv, env=passed, called="skopeo").stdout
    except CommandError as error:
        raise _explained(source, error) from None


def _explained(source: str, error: CommandError) -> UserError:
    output = error.output
    if "skopeo" in output and "No such file" in output:
        hint = "apt install skopeo"
        return UserError(f"container: {source}: asking a registry needs skopeo", hint=hint)
    if "unauthorized" in output or "denied" in output:
        hint = "check the name, or log in: skopeo login REGISTRY"
    elif "manifest unknown" in output or "not found" in output:
        hint = "check the image's name, tag and digest"
    else:
        hint = "check the network and the site's proxy"
    return UserError(f"container: {source}: the registry does not give it\n{error}", hint=hint)
