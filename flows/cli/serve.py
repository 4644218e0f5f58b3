"""The verb `serve`. API keys are read from the environment. Paths of requests are not logged, because they contain ids."""

import ipaddress
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

from cli.production import describe_store
from cli.variables import Place, Range, no_release, option
from recsys import RecsysError

log = logging.getLogger("recsys.serving")
MIN_KEY = 16  # characters of an API key


def read_keys() -> list[str]:
    """Reads API keys from RECS_API_KEYS (separated by commas) and the lines of the file RECS_API_KEYS_FILE. Raises RecsysError if
    one of these is set but has no key, so that a missing secret does not make the service public."""
    given, file = os.environ.get("RECS_API_KEYS"), os.environ.get("RECS_API_KEYS_FILE")
    try:
        parts = [given.split(",")] if given is not None else []
        parts += [Path(file).read_text().splitlines()] if file is not None else []
    except (OSError, ValueError) as error:
        raise RecsysError(f'RECS_API_KEYS_FILE "{file}" cannot be read: {error}; name a file of one key a line') from None
    sources = [[key.strip() for key in part if key.strip()] for part in parts]
    if not all(sources):
        raise RecsysError("RECS_API_KEYS or RECS_API_KEYS_FILE is set but has no key; add one, or unset it")
    keys = [key for source in sources for key in source]
    if short := [key for key in keys if len(key) < MIN_KEY]:
        raise RecsysError(f"{len(short)} API keys are shorter than {MIN_KEY} characters; make longer ones: openssl rand -hex 16")
    return keys


def require_keys(host: str, allowed_hosts: list[str], keys: list[str]) -> None:
    """Raises RecsysError if there are no keys and others than programs of this machine could read the answers: other machines, or
    web pages that a browser here opens."""
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not (local or keys):
        raise RecsysError(
            f"serve.host is {host}, which other machines can reach, and there are no keys; set RECS_API_KEYS or serve on 127.0.0.1"
        )
    if "*" in allowed_hosts and not keys:
        raise RecsysError(
            f'serve.allowed_hosts is {allowed_hosts}: with "*", any web page that a browser here opens can read the answers, and'
            " there are no keys; set RECS_API_KEYS or name the hosts"
        )


def serve(
    place: Place,
    host: Annotated[str, option("address to listen on, instead of serve.host of config.toml", shown="ADDRESS")] = "",
    port: Annotated[
        int | None,
        option("port to listen on, instead of serve.port of config.toml", read=Range(1, 65_535, is_whole=True), shown="PORT"),
    ] = None,
) -> None:
    """Starts the web service, which answers from the live release, with a page to try it.

    Example: make serve PORT=8080
    """
    import uvicorn

    from recsys.serving import Service

    chosen, keys = place.settings(), read_keys()
    host = host or chosen.serve.host
    require_keys(host, chosen.serve.allowed_hosts, keys)
    _, kept = place.open()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    log.info("serving the live release of the store %s", describe_store(place.root, place.branch_name))
    log.info("answering requests to these hosts (serve.allowed_hosts): %s", ", ".join(chosen.serve.allowed_hosts))
    if not kept.current():
        log.warning("%s; until then, requests get 503", no_release(chosen))
    for number in (signal.SIGINT, signal.SIGTERM):  # exits with 0, after uvicorn has answered the open requests
        signal.signal(number, lambda *_: sys.exit())
    uvicorn.run(
        Service(kept, chosen).app(keys),
        host=host,
        port=port or chosen.serve.port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=10,
        server_header=False,
    )
