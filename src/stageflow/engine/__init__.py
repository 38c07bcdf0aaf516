"""The verbs: the only orchestration. One file is one verb; each decodes, guards, asks the controller, and calls the store once."""
