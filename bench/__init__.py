"""The bench: pipcache beside nginx's proxy_cache, proxpi and devpi-server, on one machine, in one run.

``make bench`` runs all of it, ``make bench-quick`` a short form. It measures and judges nothing but its own table: no test
depends on a time. ``python -m bench --help`` says what can be chosen.

A scenario is one function in ``scenarios``; it gets a ``stage.Stage``, which starts servers, and returns ``results.Work``.
"""
