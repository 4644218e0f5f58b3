"""An AWS account on loopback: an unpatched moto server as its own process, with the stack of deploy/cloudformation.yml, behind a
proxy that sees every request and can spoil it."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

TEMPLATE = Path(__file__).parents[2] / "deploy" / "cloudformation.yml"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
HOP = ("connection", "transfer-encoding", "content-length")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def moto() -> Iterator[int]:
    """A moto server's port."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


class Proxy(ThreadingHTTPServer):
    """Hands requests on to moto. `spoil(method, path)` may wait, or answer with a status instead."""

    daemon_threads = True
    spoil: Callable[[str, str], int | None] = staticmethod(lambda method, path: None)

    def __init__(self, upstream: int):
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self.jobs = upstream, list[bytes]()  # what was submitted to Batch: moto forgets its sizes
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A killed container hangs up; that is what is rehearsed."""


class Handler(BaseHTTPRequestHandler):
    list_kind_version = "HTTP/1.1"
    server: Proxy

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        assert "Transfer-Encoding" not in self.headers
        if self.path == "/v1/submitjob":
            self.server.jobs.append(body)
        if (status := self.server.spoil(self.command, urlsplit(self.path).path)) is not None:
            return self.answer(status, [], b"")
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        upstream.request(self.command, self.path, body, dict(self.headers.items()))
        response = upstream.getresponse()
        self.answer(response.status, response.getheaders(), response.read())
        return upstream.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        kept = [(name, value) for name, value in headers if name.lower() not in HOP]
        length = {name.lower(): value for name, value in headers}.get("content-length") if self.command == "HEAD" else None
        for name, value in [*kept, ("Content-Length", length or str(len(body)))]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nobody reads it."""


@contextmanager
def account() -> Iterator[tuple[Proxy, dict[str, str]]]:
    """The proxy before an account, which the environment points at meanwhile, and what its stack put out."""
    import boto3

    with moto() as port:
        proxy, before = Proxy(port), dict(os.environ)
        os.environ.update(KEYS | {"AWS_ENDPOINT_URL": proxy.url, "METAFLOW_S3_ENDPOINT_URL": proxy.url})
        try:
            linked = {"RoleName": "AWSServiceRoleForBatch", "Path": "/aws-service-role/batch.amazonaws.com/"}
            boto3.client("iam").create_role(**linked, AssumeRolePolicyDocument="{}")  # every account that has used Batch has it
            subnets = boto3.client("ec2").describe_subnets()["Subnets"][:2]
            given = {
                "Vpc": subnets[0]["VpcId"],
                "Subnets": ",".join(one["SubnetId"] for one in subnets),
                "AlertEmail": "ops@example.com",
                "MaxCpus": "16",
            }
            parameters = [{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()]
            stacks = boto3.client("cloudformation")
            stacks.create_stack(StackName="recs", TemplateBody=TEMPLATE.read_text(), Parameters=parameters)
            outputs = stacks.describe_stacks(StackName="recs")["Stacks"][0]["Outputs"]
            yield proxy, {one["OutputKey"]: one["OutputValue"] for one in outputs}
        finally:
            os.environ.clear()
            os.environ.update(before)
            proxy.shutdown()
            proxy.server_close()
