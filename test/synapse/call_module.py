#!/usr/bin/python3
"""Calls doc/examples/mau_synapse.py as Synapse's documentation says that Synapse does: call_module.py DATABASE.

Reads calls from standard input, one JSON array a line: the callback's name and its arguments by position. Prints what each returns.
The package synapse is a stub with what the module imports; its database is the real one, asked with psql.
"""
import asyncio
import enum
import inspect
import json
import os
import subprocess
import sys
import types
from typing import Collection, Optional, Tuple, Union, get_type_hints

database = sys.argv[1]


class RegistrationBehaviour(enum.Enum):
    ALLOW = "allow"
    SHADOW_BAN = "shadow_ban"
    DENY = "deny"


class Codes(str, enum.Enum):
    FORBIDDEN = "M_FORBIDDEN"
    RESOURCE_LIMIT_EXCEEDED = "M_RESOURCE_LIMIT_EXCEEDED"


class Transaction:
    """As much of Synapse's LoggingTransaction as a module uses; parameters are question marks."""

    def execute(self, query, args=()):
        for arg in args:
            literal = "NULL" if arg is None else "'" + arg.replace("'", "''") + "'"
            query = query.replace("?", literal, 1)
        run = subprocess.run(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-P", "null=<null>", "-d", database, "-c", query],
                             capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(run.stderr)
        self._row = [None if value == "<null>" else value for value in run.stdout.rstrip("\n").split("|")]

    def fetchone(self):
        return self._row


class ModuleApi:
    def __init__(self):
        self.callbacks = {}

    # The callbacks that Synapse takes here; another name is a TypeError, as there.
    def register_spam_checker_callbacks(self, *, check_event_for_spam=None, user_may_create_room=None,
                                        check_registration_for_spam=None, check_login_for_spam=None):
        self.callbacks = {"check_registration_for_spam": check_registration_for_spam, "check_login_for_spam": check_login_for_spam}

    async def run_db_interaction(self, desc, func, *args, **kwargs):
        return func(Transaction(), *args, **kwargs)


for name, members in {
    "synapse": {},
    "synapse.module_api": {"ModuleApi": ModuleApi, "NOT_SPAM": "NOT_SPAM"},
    "synapse.module_api.errors": {"Codes": Codes},
    "synapse.spam_checker_api": {"RegistrationBehaviour": RegistrationBehaviour},
}.items():
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../doc/examples"))
import mau_synapse  # noqa: E402


# The signatures in Synapse's documentation, "Spam checker callbacks".
async def check_registration_for_spam(email_threepid: Optional[dict], username: Optional[str], request_info: Collection[Tuple[str, str]],
                                      auth_provider_id: Optional[str] = None) -> RegistrationBehaviour: ...


async def check_login_for_spam(user_id: str, device_id: Optional[str], initial_display_name: Optional[str],
                               request_info: Collection[Tuple[Optional[str], str]], auth_provider_id: Optional[str] = None
                               ) -> Union[str, Codes]: ...


api = ModuleApi()
mau_synapse.MauModule(mau_synapse.MauModule.parse_config({}), api)
for documented in (check_registration_for_spam, check_login_for_spam):
    ours = api.callbacks[documented.__name__]
    wanted, given = (inspect.signature(f).parameters.values() for f in (documented, ours))
    same = [(p.name, p.default) for p in wanted] == [(p.name, p.default) for p in given] and inspect.iscoroutinefunction(ours)
    print(f"signature of {documented.__name__}: {'as documented' if same else 'differs'}", flush=True)

for line in sys.stdin:
    callback, *arguments = json.loads(line)
    result = asyncio.run(api.callbacks[callback](*arguments))
    print(result.value if isinstance(result, Codes) else result.name if isinstance(result, RegistrationBehaviour) else result, flush=True)
