"""How the program starts and stops: the twistd plugin, the wiring, the phases."""
