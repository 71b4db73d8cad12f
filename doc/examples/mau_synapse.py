"""A Synapse module that enforces mau's limit with the answers of Synapse's own. Synapse 1.90 or later, on PostgreSQL.

    modules:
      - module: mau_synapse.MauModule
        config: {}

Put the file where Synapse's Python finds it. mau is in Synapse's own database, where a superuser gives Synapse's role its rights:
SELECT mau.grant_to('synapse_user'). Set limit_usage_by_mau and hs_disabled in mau.settings, and leave them off in Synapse.

If mau cannot be asked, everybody is let in, and a warning is logged once a minute.
"""

import json
import logging
import re
import time
from typing import Any, Callable, Collection, Dict, List, Literal, Optional, Tuple

from synapse.logging.context import ContextRequest, current_context
from synapse.module_api import NOT_SPAM, ModuleApi
from synapse.module_api.errors import SynapseError
from synapse.spam_checker_api import RegistrationBehaviour

logger = logging.getLogger(__name__)

MINUTE = 60

# The users that a process of Synapse keeps in memory after mau let them in. An entry is good for a minute.
REMEMBERED_USERS = 20_000

# Synapse asks its own limit before it syncs, makes an event or creates a room. Other requests of a blocked user are answered.
LIMITED_PATH = re.compile(
    r"/(sync|createRoom)$|/(join|knock)/|/rooms/[^/]+/(send|state|redact|join|knock|leave|invite|kick|ban|unban|upgrade)(/|$)"
)
# Synapse does not count the requests of a sliding sync proxy, which syncs for users who are away.
SYNC_PROXY_AGENT = "sync-v3-proxy-"
# Registration by an administrator is not limited.
ADMIN_PATHS = ("/_synapse/admin/", "/_synapse/mas/")

ACCOUNTS_A_BATCH = 500
# Reports accounts with their threepids. The owner of a reserved threepid gets a seat.
REPORT_ACCOUNTS = """
    SELECT count(mau.register_user(name, to_timestamp(creation_ts), user_type, appservice_id, is_guest = 1, medium, address))
    FROM users LEFT JOIN user_threepids ON user_id = name
    WHERE name = ANY(?) AND deactivated = 0"""


def path_of(request: ContextRequest) -> str:
    return request.url.split("?", 1)[0]


def is_limited(request: ContextRequest) -> bool:
    path = path_of(request)
    return LIMITED_PATH.search(path) is not None and (request.method != "GET" or path.endswith("/sync"))


class MauModule:
    def __init__(self, config: Dict[str, Any], api: ModuleApi):
        self._api = api
        self._let_in: Dict[str, float] = {}  # user id -> when, the oldest first
        self._warned_at = float("-inf")
        api.register_spam_checker_callbacks(
            check_registration_for_spam=self.check_registration_for_spam,
            check_login_for_spam=self.check_login_for_spam,
        )
        api.register_account_validity_callbacks(
            is_user_expired=self.is_user_expired,
            on_user_registration=self.on_user_registration,
        )
        api.register_third_party_rules_callbacks(
            on_add_user_third_party_identifier=self.on_add_user_third_party_identifier,
            on_remove_user_third_party_identifier=self.on_remove_user_third_party_identifier,
            on_user_deactivation_status_changed=self.on_user_deactivation_status_changed,
        )
        if api.should_run_background_tasks():
            api.delayed_background_call(0, self.report_all_accounts)

    @staticmethod
    def parse_config(config: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        return config or {}

    # Callbacks

    async def check_registration_for_spam(
        self,
        email_threepid: Optional[Dict[str, Any]],
        username: Optional[str],
        request_info: Collection[Tuple[str, str]],
        auth_provider_id: Optional[str] = None,
    ) -> RegistrationBehaviour:
        """Refuses registrations while the server is full, but not those of the owners of reserved e-mail addresses."""
        request = current_context().request
        if request and path_of(request).startswith(ADMIN_PATHS):
            return RegistrationBehaviour.ALLOW
        address = (email_threepid or {}).get("address")
        refuse(
            await self._ask(
                "SELECT mau.check_auth_blocking(medium => ?, address => ?)::text", "email" if address else None, address
            )
        )
        return RegistrationBehaviour.ALLOW

    async def check_login_for_spam(
        self,
        user_id: str,
        device_id: Optional[str],
        initial_display_name: Optional[str],
        request_info: Collection[Tuple[Optional[str], str]],
        auth_provider_id: Optional[str] = None,
    ) -> Literal["NOT_SPAM"]:
        """Checks and records in one call, so that two users cannot have the last seat."""
        refuse(await self._admit(user_id, next((agent for agent, _ip in request_info if agent), None)))
        return NOT_SPAM

    async def is_user_expired(self, user: str) -> Optional[bool]:
        """Checks and records an authenticated request. Returns None: whether the account is valid is for others to say."""
        request = current_context().request
        # Synapse also asks before it sends a push notification to somebody. That is not activity.
        if request is None or request.requester is not None:
            return None
        if time.monotonic() - self._let_in.get(user, float("-inf")) < MINUTE:
            return None
        if request.user_agent == SYNC_PROXY_AGENT:
            body = await self._ask("SELECT mau.check_auth_blocking(?)::text", user)
        else:
            body = await self._admit(user, request.user_agent)
        if is_limited(request):
            refuse(body)
        return None

    async def on_user_registration(self, user: str) -> None:
        await self._try(report_accounts, [user])

    async def on_add_user_third_party_identifier(self, user_id: str, medium: str, address: str) -> None:
        await self._try(report_accounts, [user_id])

    async def on_remove_user_third_party_identifier(self, user_id: str, medium: str, address: str) -> None:
        await self._ask("SELECT mau.remove_threepid(?, ?, ?)::text", user_id, medium, address)

    async def on_user_deactivation_status_changed(self, user_id: str, deactivated: bool, by_admin: bool) -> None:
        if deactivated:
            await self._ask("SELECT mau.deactivate_user(?)::text", user_id)
        else:
            await self._try(report_accounts, [user_id])

    async def report_all_accounts(self) -> None:
        """Reports the accounts and threepids that Synapse had before the module. Runs when Synapse starts, until it succeeds."""

        def names_after(txn: Any, last: str) -> List[str]:
            txn.execute("SELECT name FROM users WHERE name > ? ORDER BY name LIMIT ?", (last, ACCOUNTS_A_BATCH))
            return [name for (name,) in txn.fetchall()]

        names: Optional[List[str]] = [""]
        while names:
            names = await self._try(names_after, names[-1])
            if names is None or (names and not await self._try(report_accounts, names)):
                self._api.delayed_background_call(MINUTE * 1000, self.report_all_accounts)
                return

    # Questions to the database

    async def _admit(self, user_id: str, user_agent: Optional[str]) -> Optional[str]:
        """Returns the error body, or None if the user is let in, who is then remembered."""
        body = await self._ask("SELECT mau.admit(?, now(), ?)::text", user_id, user_agent)
        self._let_in.pop(user_id, None)
        if not body:
            self._let_in[user_id] = time.monotonic()
            if len(self._let_in) > REMEMBERED_USERS:
                del self._let_in[next(iter(self._let_in))]
        return body

    async def _ask(self, query: str, *args: Optional[str]) -> Optional[str]:
        """Returns the value that a query selects; None also if the query fails."""

        def run(txn: Any, **_: Any) -> Any:
            txn.execute(query, args)
            return txn.fetchone()[0]

        # Without BEGIN and COMMIT. Synapse takes db_autocommit itself.
        answer: Optional[str] = await self._try(run, db_autocommit=True)
        return answer

    async def _try(self, run: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Returns what `run` returns when it is given a transaction. If it fails, returns None, and logs that once a minute."""
        try:
            return await self._api.run_db_interaction("mau", run, *args, **options)
        except Exception as error:
            if time.monotonic() - self._warned_at >= MINUTE:
                self._warned_at = time.monotonic()
                logger.warning("mau cannot be asked, so everybody is let in: %s", str(error).strip())
            return None


def report_accounts(txn: Any, names: List[str]) -> bool:
    txn.execute(REPORT_ACCOUNTS, (names,))
    return True


def refuse(body: Optional[str]) -> None:
    """Raises the error that Synapse's own limit raises, if there is a body."""
    if body:
        fields = json.loads(body)
        raise SynapseError(403, fields.pop("error"), errcode=fields.pop("errcode"), additional_fields=fields)
