"""The servers that are measured: how each is started, and as what it counts in a bar."""
from dataclasses import dataclass, field

OURS, RAW, PEER = "ours", "raw", "peer"


@dataclass(frozen=True)
class Server:
    name: str  # as in the tables
    program: str  # bin/bench-server-PROGRAM
    kind: str  # OURS, RAW or PEER
    arguments: tuple = ()
    environment: dict = field(default_factory=dict)
    threads: int = 0  # 0: the row's
    hand_coalesced: bool = False

    def command(self, folder, workload, port, threads, size):
        return [folder / f"bench-server-{self.program}", "--workload", workload, "--port", port,
                "--threads", self.threads or threads, "--size", size, *self.arguments]


def with_arguments(server, suffix, *arguments, **changes):
    """The same server with more options and a name of its own."""
    values = {"name": f"{server.name}{suffix}", "program": server.program, "kind": server.kind,
              "arguments": server.arguments + arguments, "environment": server.environment,
              "threads": server.threads, "hand_coalesced": server.hand_coalesced, **changes}
    return Server(**values)


URING = Server("raw io_uring", "uring", RAW)
EPOLL = Server("raw epoll", "epoll", RAW)
LIBUV = Server("libuv", "libuv", PEER)
ASIO_EPOLL = Server("Asio epoll", "asio-epoll", PEER)
ASIO_URING = Server("Asio io_uring", "asio-uring", PEER)
LIBEVENT = Server("libevent", "libevent", PEER)
IOCP_URING = Server("iocp io_uring", "iocp", OURS, ("--backend", "uring"))
IOCP_EPOLL = Server("iocp epoll", "iocp", OURS, ("--backend", "epoll"))

PEERS = [LIBUV, ASIO_EPOLL, ASIO_URING, LIBEVENT]
IOCP = [IOCP_URING, IOCP_EPOLL]
ALL = [URING, EPOLL, *PEERS, *IOCP]


def coalesced(server):
    return with_arguments(server, ", coalesced by hand", "--coalesce", hand_coalesced=True)


ROOM = [EPOLL, *PEERS, *IOCP]
FRAMED = [EPOLL, coalesced(EPOLL), *PEERS, *map(coalesced, PEERS), *IOCP]
SLEEP = [
    with_arguments(ASIO_EPOLL, ", 8 threads", threads=8),
    with_arguments(ASIO_URING, ", 8 threads", threads=8),
    with_arguments(LIBUV, ", one loop"),
    with_arguments(LIBUV, ", work queue", "--queue", environment={"UV_THREADPOOL_SIZE": "8"}),
    *(with_arguments(iocp, ", 8 workers", "--concurrency", "2", threads=8) for iocp in IOCP),
]
SLEEP = [with_arguments(server, "", threads=server.threads or 1) for server in SLEEP]
WORK = [
    *(with_arguments(iocp, f", {label}", *arguments, threads=threads) for iocp in IOCP
      for label, threads, arguments in (("1 worker", 1, ()), ("2 workers, hot lane", 2, ()),
                                        ("2 workers, --lanes 1", 2, ("--lanes", "1")))),
    *(with_arguments(ASIO_EPOLL, f", {threads} thread{'s' * (threads > 1)}", threads=threads)
      for threads in (1, 2)),
]
