#!/usr/bin/python3
"""Calls doc/examples/mau_synapse.py as Synapse's documentation says that Synapse does: call_module.py DATABASE.

Reads calls from standard input, one JSON array a line: the callback's name and its arguments by position. Prints what each returns,
or the answer that it raises. ["request", METHOD, URL] sets the request in which the following calls are made (a user agent may follow), ["request"] none;
["remembered"] prints how many users the module remembers, of whom it keeps two here; ["later"] does what was to be done later.
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
from typing import Collection, Optional, Tuple, Union

database = sys.argv[1]


class RegistrationBehaviour(enum.Enum):
    ALLOW = "allow"
    SHADOW_BAN = "shadow_ban"
    DENY = "deny"


class SynapseError(RuntimeError):
    def __init__(self, code, msg, errcode="M_UNKNOWN", additional_fields=None):
        super().__init__(code, msg, errcode, additional_fields)
        self.answer = {"status": code, "error": msg, "errcode": errcode, **(additional_fields or {})}


class Context:
    request = None


context = Context()


def literal(value):
    if isinstance(value, list):
        return "ARRAY[" + ", ".join(map(literal, value)) + "]"
    return "NULL" if value is None else str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


class Transaction:
    """As much of Synapse's LoggingTransaction as a module uses; parameters are question marks."""

    def execute(self, query, args=()):
        for arg in args:
            query = query.replace("?", literal(arg), 1)
        run = subprocess.run(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-P", "null=<null>", "-d", database, "-c", query],
                             capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(run.stderr)
        self._rows = [[None if value == "<null>" else value for value in line.split("|")] for line in run.stdout.splitlines()]

    def fetchone(self):
        return self._rows[0]

    def fetchall(self):
        return self._rows


class ModuleApi:
    def __init__(self):
        self.callbacks = {}

    # The callbacks that Synapse takes here; another name is a TypeError, as there.
    def register_spam_checker_callbacks(self, *, check_event_for_spam=None, user_may_create_room=None,
                                        check_registration_for_spam=None, check_login_for_spam=None):
        self.callbacks.update(check_registration_for_spam=check_registration_for_spam, check_login_for_spam=check_login_for_spam)

    def register_account_validity_callbacks(self, *, is_user_expired=None, on_user_registration=None, on_user_login=None):
        self.callbacks.update(is_user_expired=is_user_expired, on_user_registration=on_user_registration)

    def register_third_party_rules_callbacks(self, *, on_user_deactivation_status_changed=None, on_add_user_third_party_identifier=None,
                                             on_remove_user_third_party_identifier=None):
        self.callbacks.update(on_user_deactivation_status_changed=on_user_deactivation_status_changed,
                              on_add_user_third_party_identifier=on_add_user_third_party_identifier,
                              on_remove_user_third_party_identifier=on_remove_user_third_party_identifier)

    def should_run_background_tasks(self):
        return True

    def delayed_background_call(self, msec, f, *args, desc=None, **kwargs):
        self.callbacks["later"] = f

    async def run_db_interaction(self, desc, func, *args, **kwargs):
        return func(Transaction(), *args, **kwargs)


for name, members in {
    "synapse": {},
    "synapse.logging": {},
    "synapse.logging.context": {"ContextRequest": object, "current_context": lambda: context},
    "synapse.module_api": {"ModuleApi": ModuleApi, "NOT_SPAM": "NOT_SPAM"},
    "synapse.module_api.errors": {"SynapseError": SynapseError},
    "synapse.spam_checker_api": {"RegistrationBehaviour": RegistrationBehaviour},
}.items():
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../doc/examples"))
import mau_synapse  # noqa: E402


# The signatures in Synapse's documentation, of spam checker, account validity and third-party rules callbacks.
async def check_registration_for_spam(email_threepid: Optional[dict], username: Optional[str], request_info: Collection[Tuple[str, str]],
                                      auth_provider_id: Optional[str] = None) -> RegistrationBehaviour: ...


async def check_login_for_spam(user_id: str, device_id: Optional[str], initial_display_name: Optional[str],
                               request_info: Collection[Tuple[Optional[str], str]], auth_provider_id: Optional[str] = None
                               ) -> Union[str, tuple]: ...


async def is_user_expired(user: str) -> Optional[bool]: ...
async def on_user_registration(user: str) -> None: ...
async def on_add_user_third_party_identifier(user_id: str, medium: str, address: str) -> None: ...
async def on_remove_user_third_party_identifier(user_id: str, medium: str, address: str) -> None: ...
async def on_user_deactivation_status_changed(user_id: str, deactivated: bool, by_admin: bool) -> None: ...


mau_synapse.REMEMBERED_USERS = 2
api = ModuleApi()
module = mau_synapse.MauModule(mau_synapse.MauModule.parse_config({}), api)
for documented in (check_registration_for_spam, check_login_for_spam, is_user_expired, on_user_registration,
                   on_add_user_third_party_identifier, on_remove_user_third_party_identifier, on_user_deactivation_status_changed):
    ours = api.callbacks[documented.__name__]
    wanted, given = (inspect.signature(f).parameters.values() for f in (documented, ours))
    same = [(p.name, p.default) for p in wanted] == [(p.name, p.default) for p in given] and inspect.iscoroutinefunction(ours)
    print(f"signature of {documented.__name__}: {'as documented' if same else 'differs'}", flush=True)

for line in sys.stdin:
    callback, *arguments = json.loads(line)
    if callback == "request":
        context.request = types.SimpleNamespace(requester=None, method=arguments[0], url=arguments[1],
                                                user_agent=(arguments + ["Mozilla"])[2]) if arguments else None
        continue
    if callback == "remembered":
        print(len(module._let_in), flush=True)
        continue
    try:
        result = asyncio.run(api.callbacks[callback](*arguments))
        print(result.name if isinstance(result, RegistrationBehaviour) else result, flush=True)
    except SynapseError as error:
        print(json.dumps(error.answer, sort_keys=True), flush=True)
