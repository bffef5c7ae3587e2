"""For ``twistd -y pipcache.tac``: the same service as ``twistd pipcache``, with settings from file and environment."""

from twisted.application.service import Application

from pipcache.service.tap import Options, makeService

options = Options()
options.parseOptions([])
application = Application("pipcache")
makeService(options).setServiceParent(application)
