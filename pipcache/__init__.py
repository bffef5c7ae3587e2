"""A caching proxy for Python packages, between installers and a choice of mirrors.

Where things stand: ``rules`` and ``simple`` decide (pure functions over values), ``edges`` move bytes (disk, upstream),
``engine`` says what happens to a request, ``web`` and ``service`` are how one comes in. A layer imports only itself and
the layers before it in this sentence; the test command checks that.
"""

__version__ = "0.1.0"
