"""The part of txredisapi that Synapse uses, for tests: Debian has no package of it. Needs hiredis."""

import hiredis
from twisted.internet import defer, protocol


class RedisProtocol(protocol.Protocol):
    """A connection. Redis answers commands in their order."""

    def __init__(self, charset="utf-8"):
        self._reader = hiredis.Reader(encoding=charset)
        self._waiting = []

    def connectionMade(self):
        self.factory.add_connection(self)

    def connectionLost(self, reason):
        self.factory.remove_connection(self)
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            answer.errback(reason)

    def dataReceived(self, data):
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self.reply_received(reply)

    def reply_received(self, reply):
        answer = self._waiting.pop(0)
        if isinstance(reply, Exception):
            answer.errback(reply)
        else:
            answer.callback(reply)

    def execute(self, *command):
        answer = defer.Deferred()
        self._waiting.append(answer)
        self.transport.write(hiredis.pack_command(command))
        return answer

    def ping(self):
        return self.execute("PING")


class SubscriberProtocol(RedisProtocol):
    """A connection that receives the messages of channels."""

    def reply_received(self, reply):
        if isinstance(reply, list) and reply[0] == "message":
            self.messageReceived(None, reply[1], reply[2])
        else:
            super().reply_received(reply)

    def subscribe(self, channels):
        return defer.gatherResults([self.execute("SUBSCRIBE", channel) for channel in channels])


class ConnectionHandler:
    """The commands of a factory's connection. A command waits for the connection."""

    def __init__(self, factory):
        self._factory = factory

    def _execute(self, *command):
        return self._factory.connected().addCallback(lambda connection: connection.execute(*command))

    def publish(self, channel, message):
        return self._execute("PUBLISH", channel, message)

    def set(self, key, value, pexpire):
        return self._execute("SET", key, value, "PX", int(pexpire))

    def get(self, key):
        return self._execute("GET", key)


class UnixConnectionHandler(ConnectionHandler):
    pass


class RedisFactory(protocol.ReconnectingClientFactory):
    protocol = RedisProtocol

    def __init__(self, handler=ConnectionHandler, charset="utf-8", **_options):
        self.handler = handler(self)
        self.pool = []
        self._charset = charset
        self._waiting = []

    def buildProtocol(self, addr):
        connection = self.protocol(charset=self._charset)
        connection.factory = self
        return connection

    def add_connection(self, connection):
        self.resetDelay()
        self.pool.append(connection)
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            answer.callback(connection)

    def remove_connection(self, connection):
        self.pool.remove(connection)

    def connected(self):
        """Returns a Deferred of a connection."""
        if self.pool:
            return defer.succeed(self.pool[0])
        answer = defer.Deferred()
        self._waiting.append(answer)
        return answer
