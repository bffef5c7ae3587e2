"""The configurations of nginx: as the upstream, and as the cache that pipcache is measured against."""

from __future__ import annotations

from pathlib import Path

from bench.client import Address
from bench.corpus import JSON_ACCEPT, MANY
from bench.tls import Certificates

_COMMON = """\
{user}daemon off;
worker_processes 1;
worker_rlimit_nofile 8192;
error_log {folder}/error.log warn;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  types {{ text/html html; {json} json; }}
  default_type application/octet-stream;
  sendfile on;
  tcp_nopush off;
  keepalive_timeout 75;
  keepalive_requests 100000000;
  map $http_accept $form {{ default html; "~{json_pattern}" json; }}
{rest}
}}
"""

_UPSTREAM = """\
  log_format bench '$msec $request_time $status $body_bytes_sent $request_uri';
  access_log {folder}/access.log bench;
  gzip_static on;
  root {root};
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    listen 127.0.0.1:{tls_port} ssl backlog=4096;
    ssl_certificate {certificates.certificate}; ssl_certificate_key {certificates.key}; ssl_session_cache shared:tls:1m;
{places}
  }}
  server {{
    listen 127.0.0.1:{slow_port} backlog=4096;
    limit_rate 25m;
{places}
  }}
"""

# named groups, as evaluating a map with a pattern gives $1 another value
_PLACES = f"""\
    location = /simple/ {{ try_files /simple/index.$form =404; }}
    location ~ ^/simple/{MANY}-[0-9]+/$ {{ try_files /simple/{MANY}/index.$form =404; }}
    location ~ ^/simple/(?<project>[a-z0-9-]+)/$ {{ try_files /simple/$project/index.$form =404; }}
    location ~ ^(?<digits>/packages/[0-9a-f]+/[0-9a-f]+/[0-9a-f]+)/ {{ try_files $uri $digits/body =404; }}"""

_PROXY = """\
  access_log {folder}/access.log combined;
  proxy_cache_path {folder}/cache levels=1:2 keys_zone=bench:64m max_size=8g inactive=7d use_temp_path=off;
  map $http_accept_encoding $coding {{ default ""; "~gzip" gzip; }}
  upstream origin {{ server 127.0.0.1:{upstream_port}; keepalive 32; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    listen 127.0.0.1:{tls_port} ssl backlog=4096;
    ssl_certificate {certificates.certificate}; ssl_certificate_key {certificates.key}; ssl_session_cache shared:tls:1m;
    location / {{
      proxy_pass {scheme}://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Accept-Encoding $coding;
      proxy_ssl_verify on; proxy_ssl_name 127.0.0.1; proxy_ssl_trusted_certificate {certificates.ca};
      proxy_cache bench;
      proxy_cache_key "$uri $form $coding";
      proxy_cache_valid 200 1d;
      proxy_cache_lock on;
      add_header X-Cache-Status $upstream_cache_status;
    }}
  }}
"""


def upstream(
    folder: Path, root: Path, port: int, tls_port: int, slow_port: int, certificates: Certificates, *, is_root: bool
) -> str:
    """The upstream: pages and files of the corpus, with a log of when the last byte of each answer was sent.

    It serves the same over HTTP, over TLS, and at 25 MiB/s for each answer.
    """
    rest = _UPSTREAM.format(
        folder=folder,
        root=root,
        port=port,
        tls_port=tls_port,
        slow_port=slow_port,
        certificates=certificates,
        places=_PLACES,
    )
    return _whole(folder, rest, is_root=is_root)


def proxy(
    folder: Path, port: int, tls_port: int, upstream: Address, certificates: Certificates, *, is_root: bool
) -> str:
    """The cache: one worker, every variant of a page kept as the upstream made it, the access log on."""
    rest = _PROXY.format(
        folder=folder,
        port=port,
        tls_port=tls_port,
        scheme="https" if upstream.ca else "http",
        upstream_port=upstream.port,
        certificates=certificates,
    )
    return _whole(folder, rest, is_root=is_root)


def _whole(folder: Path, rest: str, *, is_root: bool) -> str:
    """With root's rights nginx would give its worker to another user, who cannot read the folder."""
    user = "user root;\n" if is_root else ""
    pattern = JSON_ACCEPT.replace(".", r"\.").replace("+", r"\+")
    return _COMMON.format(user=user, folder=folder, json=JSON_ACCEPT, json_pattern=pattern, rest=rest)
