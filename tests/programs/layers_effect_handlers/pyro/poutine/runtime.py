_PYRO_STACK = []


class Trace:
    """Notes what is sampled while it is entered, each site once."""

    def __init__(self, replay=None):
        self.sites = {}
        self.replay = {} if replay is None else replay

    def __enter__(self):
        _PYRO_STACK.append(self)
        return self

    def __exit__(self, *_):
        _PYRO_STACK.remove(self)

    def _process_message(self, message):
        message["value"] = self.replay.get(message["name"])

    def _postprocess_message(self, message):
        if message["name"] in self.sites:
            raise RuntimeError(f"Multiple sample sites named '{message['name']}'")
        self.sites[message["name"]] = message


def sample(name, distribution):
    if not _PYRO_STACK:
        return distribution.rsample()
    message = {"name": name, "distribution": distribution, "value": None}
    for handler in reversed(_PYRO_STACK):
        handler._process_message(message)
    if message["value"] is None:
        message["value"] = distribution.rsample()
    for handler in _PYRO_STACK:
        handler._postprocess_message(message)
    return message["value"]
