# docker build -t pip-cache .
# docker run -p 8080:8080 -v $(pwd)/cache:/cache pip-cache
FROM python:3.12-slim

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY pipcache ./pipcache
COPY twisted ./twisted

# The list of Twisted plugins is refreshed now: the service's user cannot write it later.
RUN pip install --no-cache-dir . \
 && cd / && rm -rf /src \
 && python -c "from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))" \
 && useradd --uid 1000 --create-home pipcache \
 && install --directory --owner=pipcache --group=pipcache /cache

USER pipcache
WORKDIR /home/pipcache
ENV PYTHONUNBUFFERED=1
EXPOSE 8080
VOLUME /cache

HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
  CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + os.environ.get('PIPCACHE_SERVER_PORT', '8080') + '/health', timeout=4)"]

# --pidfile= : a stale pid of an earlier container would stop twistd. What follows the image's name are options of
# `twistd pipcache`.
ENTRYPOINT ["twistd", "--nodaemon", "--pidfile=", "pipcache"]
