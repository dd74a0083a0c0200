#!/usr/bin/python3
"""Asks a node how it is, in one step: a fact for playbooks, and for `imgbuild fleet`."""

from __future__ import annotations

import json

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: fleet_status
short_description: Asks this node how it is
description: Gives what `imgnode status --json` says as the fact `fleet_status`. Changes nothing.
options:
  command: {type: str, default: imgnode, description: the node's command}
author: imgbuild
"""


def main() -> None:
    """Run as a module of Ansible."""
    module = AnsibleModule(
        argument_spec={"command": {"type": "str", "default": "imgnode"}}, supports_check_mode=True
    )
    code, out, err = module.run_command([*module.params["command"].split(), "status", "--json"])
    try:
        told = json.loads(out)
    except ValueError:
        words = " ".join((err or out).split()) or f"nothing, and ended with {code}"
        module.fail_json(msg=f"imgnode status says {words}")
    module.exit_json(changed=False, ansible_facts={"fleet_status": told})


if __name__ == "__main__":
    main()
