"""Shows ``pipcache`` to twistd. Nothing else is imported here: twistd reads every plugin at every start."""

from twisted.application.service import ServiceMaker

pipcache = ServiceMaker("pipcache", "pipcache.service.tap", "A caching proxy for Python packages", "pipcache")
