"""A Synapse module that refuses registration and login when the server is full. Synapse 1.87 or later, on PostgreSQL.

    modules:
      - module: mau_synapse.MauModule
        config: {}

Put the file where Synapse's Python finds it. mau is in Synapse's own database, where a superuser gives Synapse's role its rights:
SELECT mau.grant_to('synapse_user'). Only documented callbacks are used:
check_registration_for_spam and check_login_for_spam. If a call of mau fails, the request goes ahead and the error is logged: counting must
not close the server.
"""

import json
import logging
from typing import Any, Collection, Dict, Optional, Tuple, Union

from synapse.module_api import NOT_SPAM, ModuleApi
from synapse.module_api.errors import Codes
from synapse.spam_checker_api import RegistrationBehaviour

logger = logging.getLogger(__name__)


class MauModule:
    def __init__(self, config: Dict[str, Any], api: ModuleApi):
        self._api = api
        api.register_spam_checker_callbacks(
            check_registration_for_spam=self.check_registration_for_spam,
            check_login_for_spam=self.check_login_for_spam,
        )

    @staticmethod
    def parse_config(config: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        return config or {}

    async def _ask(self, query: str, *args: Optional[str]) -> Optional[Dict[str, Any]]:
        """The error body that mau answers; None = go ahead, or mau could not be asked."""

        def run(txn: Any) -> Optional[str]:
            txn.execute(query, args)
            return txn.fetchone()[0]

        try:
            answer = await self._api.run_db_interaction("mau", run)
        except Exception:
            logger.exception("mau cannot be asked")
            return None
        return json.loads(answer) if answer else None

    async def check_registration_for_spam(
        self,
        email_threepid: Optional[Dict[str, Any]],
        username: Optional[str],
        request_info: Collection[Tuple[str, str]],
        auth_provider_id: Optional[str] = None,
    ) -> RegistrationBehaviour:
        """On a full server only the owner of a reserved e-mail address can register."""
        address = (email_threepid or {}).get("address")
        blocked = await self._ask(
            "SELECT mau.check_auth_blocking(medium => ?, address => ?)::text",
            "email" if address else None,
            address,
        )
        if blocked:
            logger.info("registration of %s refused: %s", username, blocked["error"])
            return RegistrationBehaviour.DENY
        return RegistrationBehaviour.ALLOW

    async def check_login_for_spam(
        self,
        user_id: str,
        device_id: Optional[str],
        initial_display_name: Optional[str],
        request_info: Collection[Tuple[Optional[str], str]],
        auth_provider_id: Optional[str] = None,
    ) -> Union[str, Codes]:
        """Check and record are one call, so that two users cannot have the last seat."""
        user_agent = next((agent for agent, _ip in request_info if agent), None)
        blocked = await self._ask("SELECT mau.admit(?, now(), ?)::text", user_id, user_agent)
        if blocked:
            logger.info("login of %s refused: %s", user_id, blocked["error"])
            return Codes.RESOURCE_LIMIT_EXCEEDED
        return NOT_SPAM
