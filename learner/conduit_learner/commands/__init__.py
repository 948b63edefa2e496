"""The commands of ``conduit`` that read the log again. Each module loads what it needs when it is called for."""
