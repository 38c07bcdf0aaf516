"""The verbs: the only orchestration. One file is one verb: decode, guard, ask the controller, call the store once."""
