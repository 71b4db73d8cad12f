#!/usr/bin/python3
"""One real XMPP session: xmpp_login.py PORT JID PASSWORD [register|remove].

Logs in (after registering the account over the wire, if asked to), is online for a moment, logs out (or removes the account); prints
`online`, or `refused:` and the error.
"""
import asyncio
import logging
import sys

import slixmpp
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import StanzaPath

logging.basicConfig(level=logging.CRITICAL)
port, jid, password, *more = sys.argv[1:]
outcome = "refused: no answer"


class Session(slixmpp.ClientXMPP):
    def __init__(self):
        super().__init__(jid, password)
        self.plugin["feature_mechanisms"].unencrypted_scram = True
        self.plugin["feature_mechanisms"].unencrypted_plain = True
        if more:
            self.register_plugin("xep_0077")
        if "register" in more:
            self._always_send_everything = True  # else slixmpp holds back the request until there is a session
            self.add_event_handler("register", self.registers)
        for event, handler in (
            ("session_start", self.starts),
            ("failed_auth", self.fails),
            ("session_bind_failed", self.fails),
            ("connection_failed", self.fails),
        ):
            self.add_event_handler(event, handler)
        self.add_event_handler("stream_error", self.fails)
        # Binding a resource is asked for inside slixmpp; its refusal shows only as a stanza.
        self.register_handler(
            Callback("refusal", StanzaPath("iq@type=error"), lambda iq: self.refused(iq["error"]))
        )

    async def get_dns_records(self, _domain, _port=None):
        return []  # slixmpp before 1.9 asks in spite of the address given

    async def registers(self, _form):
        request = self.Iq()
        request["type"] = "set"
        request["register"]["username"] = self.boundjid.user
        request["register"]["password"] = self.password
        try:
            await request.send()
        except slixmpp.exceptions.IqError:
            pass  # the handler of refusals has seen it

    async def starts(self, _event):
        global outcome
        self.send_presence()
        await self.get_roster()
        outcome = "online"
        if "remove" in more:
            await self["xep_0077"].cancel_registration()
        self.disconnect()

    def refused(self, error):
        global outcome
        outcome = f"refused: {error['condition']}: {error['text']}"
        self.disconnect()

    def fails(self, event):
        global outcome
        if outcome == "refused: no answer":
            outcome = f"refused: {event if isinstance(event, (str, Exception)) else event['condition']}"
        self.disconnect()


session = Session()
if hasattr(session, "enable_plaintext"):
    session.enable_starttls = session.enable_direct_tls = False
    session.enable_plaintext = True
    session.connect("127.0.0.1", int(port))
else:  # slixmpp before 1.9
    session.connect(address=("127.0.0.1", int(port)), disable_starttls=True)
try:
    session.loop.run_until_complete(asyncio.wait_for(session.disconnected, 20))
except asyncio.TimeoutError:
    pass
print(outcome)
